//! What the modules' invariants claim, tried by loom in every interleaving of two or three
//! threads; where those are too many, in those with few preemptions.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p handover --lib --release
//! ```
//!
//! A thread that waits for a wake-up that never comes is a deadlock, which loom reports.

mod accept;
mod drain;
mod gate;
mod handles;
mod resume;
mod signal;
mod stages;

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use loom::{
    model::Builder,
    sync::{Condvar, Mutex},
};

/// Tries all interleavings.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    explore_up_to(None, model);
}

/// Tries all interleavings in which threads are interrupted at most `preemptions` times: for
/// models of three threads that take minutes otherwise.
fn explore_within(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    explore_up_to(Some(preemptions), model);
}

fn explore_up_to(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    let tried = Arc::new(AtomicUsize::new(0));
    let count = tried.clone();
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let tried = tried.load(Ordering::Relaxed);
    println!("{tried} interleavings");
    assert!(tried > 1, "there was nothing to interleave");
}

/// Runs a future to its end, and polls it once more than it was woken, each time: it may rely on
/// nothing but the waker that it has stored.
///
/// loom's own `block_on` has wakers that do not know their clones, so that every poll stores a new
/// one; and its `unpark` also wakes threads that wait for something else.
fn block_on<F: Future>(future: F) -> F::Output {
    #[derive(Default)]
    struct Bell {
        rung: Mutex<bool>,
        ring: Condvar,
    }

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            *self.rung.lock().unwrap() = true;
            self.ring.notify_one();
        }
    }

    let bell = Arc::new(Bell::default());
    // Clones of a clone have one table of functions, and so know each other.
    let waker = Waker::from(bell.clone()).clone();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        for _ in 0..2 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
        }
        let mut rung = bell.rung.lock().unwrap();
        while !*rung {
            rung = bell.ring.wait(rung).unwrap();
        }
        *rung = false;
    }
}
