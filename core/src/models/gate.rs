//! The count of guards.

use std::sync::Arc;

use loom::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{explore, explore_within};
use crate::gate::{Gate, Owner};

#[derive(Default)]
struct Told {
    times: AtomicUsize,
    // What holders of a guard have under way. Relaxed, so that only what the gate itself orders
    // makes a holder's last store visible to who is told.
    busy: [AtomicUsize; 2],
}

impl Told {
    // Of an atomic the newest value, as a load need not give it.
    fn times(&self) -> usize {
        self.times.fetch_add(0, Ordering::Relaxed)
    }

    fn visit(&self, gate: &Gate<Told>, who: usize) {
        let Some(guard) = gate.enter() else { return };
        self.busy[who].store(1, Ordering::Relaxed);
        assert_eq!(self.times(), 0, "reported empty, but a guard lives");
        self.busy[who].store(0, Ordering::Relaxed);
        drop(guard);
    }
}

impl Owner for Told {
    fn gate_is_empty(self: &Arc<Self>) {
        for busy in &self.busy {
            assert_eq!(busy.load(Ordering::Relaxed), 0, "not all work is done");
        }
        self.times.fetch_add(1, Ordering::Relaxed);
    }
}

fn gate(shards: usize) -> (Arc<Told>, Arc<Gate<Told>>) {
    let told = Arc::new(Told::default());
    let gate = Arc::new(Gate::open(shards, &told));
    (told, gate)
}

fn visitors_against_close(shards: usize) {
    let (told, gate) = gate(shards);
    let visitors = [0, 1].map(|who| {
        let (told, gate) = (told.clone(), gate.clone());
        thread::spawn(move || told.visit(&gate, who))
    });
    drop(gate.close());
    if told.times() == 1 {
        assert!(gate.enter().is_none(), "let in after it was reported empty");
    }
    for visitor in visitors {
        visitor.join().unwrap();
    }
    assert_eq!(told.times(), 1);
    assert!(gate.enter().is_none());
    assert!(!gate.reopen());
}

#[test]
fn one_of_two_shards_is_the_last() {
    explore_within(4, || visitors_against_close(2));
}

#[test]
fn guards_of_one_shard_leave_it_once() {
    explore(|| visitors_against_close(1));
}

#[test]
fn a_gate_is_reopened_or_reported_empty() {
    explore(|| {
        let (told, gate) = gate(2);
        let guard = gate.enter().unwrap();
        drop(gate.close());
        let last = thread::spawn(move || drop(guard));
        let reopened = gate.reopen();
        last.join().unwrap();
        assert_eq!(told.times(), usize::from(!reopened));
        assert_eq!(gate.enter().is_some(), reopened);
        drop(gate.close());
        assert_eq!(told.times(), 1);
    });
}
