//! The phase that tasks watch.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use loom::thread;

use super::{block_on, explore, explore_within};
use crate::{
    Phase,
    holder::{Describe, Holding, Kind},
    signal::{Place, Signal},
};

async fn wait_for(signal: &Signal, place: &mut Place, phase: Phase) {
    poll_fn(|cx| match signal.watch(place, cx).phase() == phase {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

#[test]
fn no_wake_up_is_lost() {
    explore(|| {
        let signal = Arc::new(Signal::new(Phase::Running));
        let setter = thread::spawn({
            let signal = signal.clone();
            move || {
                signal.set(Phase::Draining);
                signal.wake();
            }
        });
        let mut place = signal.join(None);
        // loom's wakers do not know their own clones again: `watch` has to end nevertheless.
        loom::future::block_on(wait_for(&signal, &mut place, Phase::Draining));
        signal.leave(&place);
        setter.join().unwrap();
    });
}

/// A task may come between `set` and `wake`, and find its place already up to date when it is
/// polled again: the next change must wake it nevertheless.
#[test]
fn a_task_that_has_seen_the_new_word_keeps_its_waker() {
    explore(|| {
        let signal = Arc::new(Signal::new(Phase::Running));
        let setter = thread::spawn({
            let signal = signal.clone();
            move || {
                for phase in [Phase::Draining, Phase::Cutting] {
                    signal.set(phase);
                    signal.wake();
                }
            }
        });
        let mut place = signal.join(None);
        block_on(wait_for(&signal, &mut place, Phase::Cutting));
        setter.join().unwrap();
    });
}

/// As when a drain is cut before its beginning has been told to everybody.
#[test]
fn a_late_walk_leaves_the_wakers_of_a_newer_word() {
    explore_within(4, || {
        let signal = Arc::new(Signal::new(Phase::Running));
        signal.set(Phase::LameDuck);
        let late = thread::spawn({
            let signal = signal.clone();
            move || signal.wake()
        });
        let setter = thread::spawn({
            let signal = signal.clone();
            move || {
                for phase in [Phase::Draining, Phase::Cutting] {
                    signal.set(phase);
                    signal.wake();
                }
            }
        });
        let mut place = signal.join(None);
        block_on(wait_for(&signal, &mut place, Phase::Cutting));
        late.join().unwrap();
        setter.join().unwrap();
    });
}

/// Looks at all lots when it is woken and when it is dropped: a deadlock if one is locked.
struct Nosy(Weak<Signal>);

impl Nosy {
    fn new(signal: &Arc<Signal>) -> Arc<Self> {
        Arc::new(Self(Arc::downgrade(signal)))
    }

    fn look(&self) {
        if let Some(signal) = self.0.upgrade() {
            let _subjects = signal.subjects();
        }
    }
}

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl Describe for Nosy {
    fn describe(&self) -> Holding {
        Holding::new(Kind::Task, Duration::ZERO)
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.look();
    }
}

#[test]
fn a_place_is_left_while_it_is_woken() {
    explore(|| {
        let signal = Arc::new(Signal::new(Phase::Running));
        let mut left = signal.join(Some(Nosy::new(&signal)));
        let setter = thread::spawn({
            let signal = signal.clone();
            move || {
                signal.set(Phase::Draining);
                signal.wake();
            }
        });
        let waker = Waker::from(Nosy::new(&signal));
        signal.watch(&mut left, &Context::from_waker(&waker));
        drop(waker);
        signal.leave(&left);
        drop(left);
        assert!(signal.subjects().is_empty());
        // Takes the place that has become free.
        let mut place = signal.join(None);
        block_on(wait_for(&signal, &mut place, Phase::Draining));
        setter.join().unwrap();
    });
}
