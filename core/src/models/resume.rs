//! A drain that is taken back: it is Running again with guards to be had, or it goes on to its
//! end, and never something in between.

use loom::thread;

use super::{block_on, explore};
use crate::{Graceful, Phase, Reason};

const UPGRADE: Reason = Reason::Upgrade { successor: 7 };

fn assert_runs(graceful: &Graceful) {
    assert_eq!(graceful.phase(), Phase::Running);
    assert_eq!(graceful.reason(), None);
    // The gate is open: to leave it empty ends nothing.
    drop(graceful.guard().expect("a guard of a running service"));
    assert_eq!(graceful.phase(), Phase::Running);
    assert!(graceful.report().is_none());
}

#[test]
fn resume_against_the_last_guard() {
    explore(3, || {
        let graceful = Graceful::new();
        let guard = graceful.guard().unwrap();
        graceful.drain_for(UPGRADE);
        let last = thread::spawn(move || drop(guard));
        let resumed = graceful.resume();
        last.join().unwrap();
        if resumed {
            assert_runs(&graceful);
            graceful.drain();
        }
        assert!(block_on(graceful.drained()).is_complete());
        assert!(graceful.guard().is_none());
    });
}

#[test]
fn resume_against_the_beginning() {
    explore(3, || {
        let graceful = Graceful::new();
        let drainer = thread::spawn({
            let graceful = graceful.clone();
            move || graceful.drain_for(UPGRADE)
        });
        let resumed = graceful.resume();
        drainer.join().unwrap();
        if resumed {
            assert_runs(&graceful);
        } else {
            assert_eq!(graceful.phase(), Phase::Drained);
        }
    });
}
