//! One stage, from its beginning to its end.

use std::{future::poll_fn, time::Duration};

use loom::thread;

use super::{block_on, explore};
use crate::{Graceful, Phase, Policy, Reason};

/// The drain ended, and did so once: after `changes` of the phase.
fn assert_drained(graceful: &Graceful, changes: std::ops::RangeInclusive<u32>) {
    let drain = graceful.drain_ref();
    assert_eq!(graceful.phase(), Phase::Drained);
    assert!(graceful.guard().is_none(), "a guard after the end");
    assert_eq!(drain.done.word().changes(), 1);
    let changed = drain.first_stage().signal.word().changes();
    assert!(changes.contains(&changed), "{changed} changes");
}

#[test]
fn the_last_guard_against_drain() {
    explore(|| {
        let graceful = Graceful::new();
        let guard = graceful.guard().unwrap();
        let last = thread::spawn(move || drop(guard));
        graceful.drain();
        assert!(block_on(graceful.drained()).is_complete());
        last.join().unwrap();
        assert_drained(&graceful, 2..=2);
    });
}

#[test]
fn a_new_guard_against_drain_holds_or_is_refused() {
    explore(|| {
        let graceful = Graceful::new();
        let late = thread::spawn({
            let graceful = graceful.clone();
            move || {
                if let Some(guard) = graceful.guard() {
                    assert!(graceful.report().is_none(), "over, but a guard lives");
                    assert_ne!(guard.phase(), Phase::Drained);
                }
            }
        });
        graceful.drain();
        assert!(block_on(graceful.drained()).is_complete());
        late.join().unwrap();
        assert_drained(&graceful, 2..=2);
    });
}

#[test]
fn a_holder_is_told_and_its_end_ends_the_drain() {
    explore(|| {
        let graceful = Graceful::new();
        let mut holder = graceful.hold("task").unwrap();
        let task = thread::spawn(move || {
            block_on(async {
                while poll_fn(|cx| holder.poll_phase(cx)).await < Phase::Draining {}
            });
        });
        graceful.drain();
        let report = block_on(graceful.drained());
        assert!(report.is_complete());
        assert_eq!(report.at_start.tasks, 1);
        task.join().unwrap();
        assert!(graceful.holders().is_empty());
        assert_drained(&graceful, 2..=2);
    });
}

#[test]
fn the_last_guard_against_the_cut() {
    explore(|| {
        let graceful = Graceful::new();
        let guard = graceful.guard().unwrap();
        let last = thread::spawn(move || drop(guard));
        graceful.drain();
        graceful.cut();
        assert!(block_on(graceful.drained()).is_complete());
        last.join().unwrap();
        assert_drained(&graceful, 2..=3);
    });
}

#[test]
fn the_last_guard_against_giving_up() {
    explore(|| {
        let policy = Policy::default().with_cut_grace(Duration::ZERO);
        let graceful = Graceful::with_policy(policy);
        let guard = graceful.guard().unwrap();
        graceful.cut();
        let last = thread::spawn(move || drop(guard));
        graceful.drain_ref().tick(1);
        assert!(block_on(graceful.drained()).abandoned <= 1);
        assert!(graceful.guard().is_none(), "the abandoned guard lets in");
        last.join().unwrap();
        assert_drained(&graceful, 3..=3);
    });
}

#[test]
fn one_of_two_reasons_wins() {
    explore(|| {
        let graceful = Graceful::new();
        let other = thread::spawn({
            let graceful = graceful.clone();
            move || graceful.drain_for(Reason::Signal(2))
        });
        let first = graceful.drain_for(Reason::Signal(15));
        let second = other.join().unwrap();
        assert_ne!(first, second);
        let reason = Reason::Signal(if first { 15 } else { 2 });
        assert_eq!(graceful.reason(), Some(reason));
        assert_eq!(block_on(graceful.drained()).reason, reason);
        assert_drained(&graceful, 2..=2);
    });
}
