//! A drain that is taken back: it is Running again with guards to be had, or it goes on to its
//! end, and never something in between.

use std::time::Duration;

use loom::thread;

use super::{block_on, explore};
use crate::{Graceful, Phase, Policy, Reason};

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
    explore(|| {
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
    explore(|| {
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

#[test]
fn a_cut_is_never_lost_to_resume() {
    explore(|| {
        let graceful = Graceful::new();
        let guard = graceful.guard().unwrap();
        graceful.drain_for(UPGRADE);
        let cutter = thread::spawn({
            let graceful = graceful.clone();
            move || graceful.cut()
        });
        graceful.resume();
        cutter.join().unwrap();
        assert_eq!(graceful.phase(), Phase::Cutting);
        assert_eq!(guard.phase(), Phase::Cutting);
    });
}

#[test]
fn resume_against_the_deadline() {
    explore(|| {
        let policy = Policy::default().with_upgrade_deadline(Duration::ZERO);
        let graceful = Graceful::with_policy(policy);
        let guard = graceful.guard().unwrap();
        graceful.drain_for(UPGRADE);
        let clock = thread::spawn({
            let graceful = graceful.clone();
            move || graceful.drain_ref().tick(1)
        });
        let resumed = graceful.resume();
        clock.join().unwrap();
        if resumed {
            assert_runs(&graceful);
        } else {
            assert_eq!(guard.phase(), Phase::Cutting);
        }
    });
}

#[test]
fn the_clock_of_a_drain_taken_back_leaves_the_next_alone() {
    explore(|| {
        let policy = Policy::default()
            .with_upgrade_deadline(Duration::ZERO)
            .with_lame_duck(Duration::from_secs(3600))
            .with_deadline(Duration::from_secs(7200));
        let graceful = Graceful::with_policy(policy);
        let _guard = graceful.guard().unwrap();
        graceful.drain_for(UPGRADE);
        let clock = thread::spawn({
            let graceful = graceful.clone();
            move || graceful.drain_ref().tick(1)
        });
        let resumed = graceful.resume();
        graceful.drain();
        clock.join().unwrap();
        let phase = match resumed {
            true => Phase::LameDuck,
            false => Phase::Cutting,
        };
        assert_eq!(graceful.phase(), phase);
    });
}
