//! Holds actix's workers back until the generation may accept.
//!
//! actix accepts as soon as its workers have their services. The last service to be made is therefore
//! kept until the gate opens: by then an application that cannot be made has been an error, and the
//! predecessor has not lost a connection to workers that might still be stopped.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::{oneshot, watch};

#[derive(Debug)]
pub(super) struct Starting {
    wanted: usize,
    made: AtomicUsize,
    all: Mutex<Option<oneshot::Sender<()>>>,
    released: watch::Receiver<bool>,
    failed: Mutex<Option<String>>,
}

impl Starting {
    /// For so many services. What is returned is told when all have been made, and releases them.
    pub(super) fn new(wanted: usize) -> (Self, oneshot::Receiver<()>, watch::Sender<bool>) {
        let (all, made) = oneshot::channel();
        let (release, released) = watch::channel(false);
        let starting = Self {
            wanted,
            made: AtomicUsize::new(0),
            all: Mutex::new(Some(all)),
            released,
            failed: Mutex::default(),
        };
        (starting, made, release)
    }

    /// A service has been made. Returns false if there is nothing to serve any more.
    ///
    /// Those that are made later, for a worker that has died, wait for nothing.
    pub(super) async fn made(&self) -> bool {
        if self.made.fetch_add(1, SeqCst) + 1 != self.wanted {
            return true;
        }
        let all = lock(&self.all).take();
        if let Some(all) = all {
            // Nobody waits for it if the start was given up.
            let _ = all.send(());
        }
        let mut released = self.released.clone();
        released.wait_for(|released| *released).await.is_ok()
    }

    /// A service cannot be made.
    pub(super) fn failed(&self, why: String) {
        lock(&self.failed).get_or_insert(why);
    }

    pub(super) fn failure(&self) -> Option<String> {
        lock(&self.failed).take()
    }
}

// Nothing that can panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
