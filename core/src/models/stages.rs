//! Several stages.

use loom::thread;

use super::{block_on, explore, explore_within};
use crate::{Graceful, Guard, Phase};

#[test]
fn stages_drain_in_order() {
    explore_within(4, || {
        let graceful = Graceful::new();
        let jobs = graceful.stage("jobs");
        let request = graceful.guard().unwrap();
        let job = jobs.guard().unwrap();
        let first = thread::spawn(move || drop(request));
        let second = thread::spawn({
            let graceful = graceful.clone();
            move || {
                if job.phase() >= Phase::Draining {
                    assert_eq!(graceful.phase(), Phase::Drained, "out of order");
                }
                drop(job);
            }
        });
        graceful.drain();
        assert!(block_on(graceful.drained()).is_complete());
        assert_eq!(graceful.phase(), Phase::Drained);
        assert_eq!(jobs.phase(), Phase::Drained);
        first.join().unwrap();
        second.join().unwrap();
    });
}

/// A stage that nobody holds is over as soon as the one before it is.
#[test]
fn an_empty_stage_does_not_end_before_its_turn() {
    explore(|| {
        let graceful = Graceful::new();
        let jobs = graceful.stage("jobs");
        let request = graceful.guard().unwrap();
        let drainer = thread::spawn({
            let graceful = graceful.clone();
            move || graceful.drain()
        });
        assert_eq!(jobs.phase(), Phase::Running, "a request is under way");
        assert!(jobs.guard().is_some());
        drop(request);
        drainer.join().unwrap();
        assert_eq!(jobs.phase(), Phase::Drained);
        assert!(graceful.report().is_some());
    });
}

#[test]
fn the_cut_leaves_a_drained_stage_alone() {
    explore(|| {
        let graceful = Graceful::new();
        let jobs = graceful.stage("jobs");
        let request = graceful.guard().unwrap();
        let job = jobs.guard().unwrap();
        graceful.drain();
        let last = thread::spawn(move || drop(request));
        graceful.cut();
        last.join().unwrap();
        assert_eq!(graceful.phase(), Phase::Drained);
        assert_eq!(job.phase(), Phase::Cutting);
        drop(job);
        assert_eq!(jobs.phase(), Phase::Drained);
        assert!(graceful.report().is_some());
    });
}

#[test]
fn a_stage_made_while_the_drain_begins_is_drained_too() {
    explore(|| {
        let graceful = Graceful::new();
        let maker = thread::spawn({
            let graceful = graceful.clone();
            move || {
                let jobs = graceful.stage("jobs");
                let job: Option<Guard> = jobs.guard();
                if job.is_some() {
                    assert!(graceful.report().is_none(), "over, but a guard lives");
                }
                jobs
            }
        });
        graceful.drain();
        block_on(graceful.drained());
        let jobs = maker.join().unwrap();
        assert_eq!(jobs.phase(), Phase::Drained);
        assert!(jobs.guard().is_none());
    });
}
