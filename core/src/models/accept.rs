//! What an accept loop does, against the drain.

use loom::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use std::sync::Arc;

use super::{block_on, explore};
use crate::{Graceful, Phase, Reason};

/// The loop's guard is held until its connection has one, so that the drain cannot end between
/// the two.
#[test]
fn a_drain_waits_for_what_was_just_accepted() {
    explore(|| {
        let graceful = Graceful::new();
        let served = Arc::new(AtomicUsize::new(0));
        let accepting = graceful.guard().unwrap();
        let acceptor = thread::spawn({
            let (graceful, served) = (graceful.clone(), served.clone());
            move || {
                // It has been accepted: whatever the phase, it is served.
                let accepts = accepting.phase().accepts();
                let connection = graceful.guard().expect("held by the accept guard");
                drop(accepting);
                assert_ne!(connection.phase(), Phase::Drained);
                assert!(graceful.report().is_none(), "over, but a connection lives");
                served.store(1, Ordering::Relaxed);
                drop(connection);
                accepts
            }
        });
        graceful.drain();
        assert!(block_on(graceful.drained()).is_complete());
        assert_eq!(
            served.load(Ordering::Relaxed),
            1,
            "ended before it was served"
        );
        acceptor.join().unwrap();
    });
}

/// Who has seen a drain and asks what it is for, may ask after it was taken back: the service then
/// goes on, and must not be taken for one that ends.
#[test]
fn a_drain_that_is_taken_back_ends_no_loop() {
    explore(|| {
        let graceful = Graceful::new();
        let accepting = graceful.guard().unwrap();
        let acceptor = thread::spawn({
            let graceful = graceful.clone();
            move || graceful.phase() == Phase::Draining && graceful.is_stopping()
        });
        graceful.drain_for(Reason::Upgrade { successor: 1 });
        assert!(graceful.resume());
        assert!(!acceptor.join().unwrap(), "it has a successor, or goes on");
        drop(accepting);
    });
}
