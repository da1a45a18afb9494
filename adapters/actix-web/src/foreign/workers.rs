//! Asks actix's workers whether they have looked at what was accepted for them.
//!
//! Their queues cannot be seen. But what waits in them is taken out by a task of the worker's thread,
//! and that thread polls what is ready in the order in which it became so.
//!
//! # Invariants
//!
//! 1. A worker that has a connection in its queue is ready: it was woken by it. So between the moment in
//!    which a task of ours was woken and its second turn from then on, the worker had its own.
//! 2. In its turn it takes what is in its queue, up to what tokio lets a task take at once, and makes a
//!    task of each; all of these have had a turn, and are tracked, before our third.
//! 3. What it left there is taken in a later round: rounds are made until one brings nothing. Each of
//!    our turns begins with a look at the sockets, so the last round also hears what had arrived on them.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_rt::task::yield_now;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::connection::Open;

/// The turns that the task of ours lets pass: see the invariants.
const TURNS: usize = 2;

type Answer = oneshot::Sender<()>;

/// The threads of all workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    threads: Mutex<Vec<mpsc::UnboundedSender<Answer>>>,
}

impl Workers {
    /// This thread is one of theirs from now on. For a task that runs there as they do.
    pub(super) fn join(&self) {
        let (thread, mut asked) = mpsc::unbounded_channel::<Answer>();
        let mut threads = self.lock();
        // Those of workers that have died.
        threads.retain(|thread| !thread.is_closed());
        threads.push(thread);
        drop(threads);
        // It ends with its thread.
        drop(actix_rt::spawn(async move {
            while let Some(answer) = asked.recv().await {
                for _ in 0..TURNS {
                    yield_now().await;
                }
                // Who asked may have given up.
                let _ = answer.send(());
            }
        }));
    }

    /// Waits until all that was in their queues is tracked, if nothing is put there any more; and no
    /// longer than this for a thread that is held by a handler. Cancel safe.
    pub(super) async fn have_looked(&self, open: &Open, patience: Duration) {
        loop {
            let before = open.begun();
            if timeout(patience, self.turn()).await.is_err() || open.begun() == before {
                return;
            }
        }
    }

    /// Waits until each thread has had a whole turn.
    async fn turn(&self) {
        for answered in self.ask() {
            // An error: it has ended, and its queue with it.
            let _ = answered.await;
        }
    }

    fn ask(&self) -> Vec<oneshot::Receiver<()>> {
        let ask = |thread: &mpsc::UnboundedSender<Answer>| {
            let (answer, answered) = oneshot::channel();
            thread.send(answer).ok().map(|()| answered)
        };
        self.lock().iter().filter_map(ask).collect()
    }

    // Nothing that can panic runs under it.
    fn lock(&self) -> MutexGuard<'_, Vec<mpsc::UnboundedSender<Answer>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
