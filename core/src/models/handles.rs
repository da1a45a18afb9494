//! Handles that go before the guards do: nothing is drained, and nothing is left in memory.

use std::sync::{Arc, Weak};

use loom::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::explore;
use crate::{Graceful, drain::Stage};

/// Drops both at once, each in a thread.
///
/// Whether the drain is still there is asked of std's `Weak`, which loom does not see. So both
/// threads touch something that it does see, and it tries both orders.
fn drop_at_once(one: impl Send + 'static, other: impl Send + 'static) {
    let order = Arc::new(AtomicUsize::new(0));
    let first = thread::spawn({
        let order = order.clone();
        move || {
            order.fetch_add(1, Ordering::Relaxed);
            drop(one);
        }
    });
    order.fetch_add(1, Ordering::Relaxed);
    drop(other);
    first.join().unwrap();
}

fn watched(graceful: &Graceful) -> Weak<Stage> {
    let guard = graceful.guard().unwrap();
    Arc::downgrade(guard.stage())
}

#[test]
fn the_last_guard_against_the_last_handle() {
    explore(|| {
        let graceful = Graceful::new();
        let stage = watched(&graceful);
        let guard = graceful.guard().unwrap();
        drop_at_once(guard, graceful);
        assert!(stage.upgrade().is_none(), "the stage outlives its users");
    });
}

#[test]
fn the_last_handle_goes_in_the_middle_of_a_drain() {
    explore(|| {
        let graceful = Graceful::new();
        let jobs = graceful.stage("jobs");
        let stages = [watched(&graceful), watched(&jobs)];
        let guard = graceful.guard().unwrap();
        graceful.drain();
        drop_at_once(guard, (graceful, jobs));
        for stage in stages {
            assert!(stage.upgrade().is_none(), "the stage outlives its users");
        }
    });
}
