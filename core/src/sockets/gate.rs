//! Holds listeners back until their generation serves.
//!
//! Invariants:
//! 1. A waker is registered under the lock, after the gate was seen shut under the same lock, so
//!    that an opening either is seen or wakes.
//! 2. A slot belongs to one [`Pass`], which frees it when dropped: the gate does not grow.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use slab::Slab;

/// A gate that can be opened and shut any number of times.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: AtomicBool,
    waiting: Mutex<Slab<Option<Waker>>>,
}

/// One waiter's place at a gate.
pub(crate) struct Pass {
    shared: Arc<Shared>,
    slot: Option<usize>,
}

impl Gate {
    pub(crate) fn open(&self) {
        let mut waiting = self.shared.lock();
        self.shared.open.store(true, Ordering::Release);
        let wakers: Vec<_> = waiting
            .iter_mut()
            .filter_map(|(_, slot)| slot.take())
            .collect();
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn shut(&self) {
        let _waiting = self.shared.lock();
        self.shared.open.store(false, Ordering::Release);
    }

    pub(crate) fn pass(&self) -> Pass {
        Pass {
            shared: Arc::clone(&self.shared),
            slot: None,
        }
    }
}

impl Pass {
    /// Ready while the gate is open.
    pub(crate) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut waiting = self.shared.lock();
        if self.shared.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let slot = *self.slot.get_or_insert_with(|| waiting.insert(None));
        waiting[slot] = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until the gate is open. Cancel safe.
    pub(crate) async fn opened(&mut self) {
        poll_fn(|cx| self.poll_open(cx)).await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.shared.lock().remove(slot);
        }
    }
}

impl Shared {
    // Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("open", &self.shared.open)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    #[test]
    fn opens_wakes_and_shuts_again() {
        let gate = Gate::default();
        let mut pass = gate.pass();
        let mut first = task::spawn(pass.opened());
        assert_pending!(first.poll());
        gate.open();
        assert!(first.is_woken());
        assert_ready!(first.poll());
        drop(first);
        gate.shut();
        assert_pending!(task::spawn(pass.opened()).poll());
    }

    #[test]
    fn a_dropped_pass_leaves_nothing_behind() {
        let gate = Gate::default();
        for _ in 0..100 {
            let mut pass = gate.pass();
            assert_pending!(task::spawn(pass.opened()).poll());
        }
        assert!(gate.shared.lock().is_empty());
    }
}
