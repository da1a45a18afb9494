//! What concurrent code is built from: the standard library's, or loom's when a model runs.
//!
//! [`Strong`] and [`WeakRef`] are `Arc` and `Weak` by the names of what they are used for here:
//! their strong count *is* the count of guards. loom's `Arc` has no `Weak`, so models run on a
//! small double with the same counting rules.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc as Strong, Mutex, MutexGuard, Weak as WeakRef,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

#[cfg(loom)]
pub(crate) use self::counted::{Strong, WeakRef};
#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

/// Locks, and goes on after a panic in another holder: every critical section in this crate
/// leaves its data whole at each step, so a poisoned lock guards nothing that is broken.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(loom)]
mod counted {
    use std::{
        ops::Deref,
        sync::{Arc, Weak},
    };

    use loom::sync::atomic::{AtomicUsize, Ordering, fence};

    /// Counts as `std::sync::Arc` does, with loom's atomics.
    ///
    /// The count decides; the `Arc` beside it only keeps the value, and is given up in one step
    /// with the count, since loom changes threads at its own operations alone. Nothing here
    /// orders memory that std's would not: models must find what relies on more.
    pub(crate) struct Strong<T> {
        count: Arc<AtomicUsize>,
        // `Some` until drop.
        value: Option<Arc<T>>,
    }

    impl<T> Strong<T> {
        pub(crate) fn new(value: T) -> Self {
            Self {
                count: Arc::new(AtomicUsize::new(1)),
                value: Some(Arc::new(value)),
            }
        }

        pub(crate) fn downgrade(this: &Self) -> WeakRef<T> {
            WeakRef {
                count: this.count.clone(),
                value: this.value.as_ref().map(Arc::downgrade).unwrap_or_default(),
            }
        }
    }

    impl<T> Clone for Strong<T> {
        fn clone(&self) -> Self {
            self.count.fetch_add(1, Ordering::Relaxed);
            Self {
                count: self.count.clone(),
                value: self.value.clone(),
            }
        }
    }

    impl<T> Deref for Strong<T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.value.as_ref().expect("present until drop")
        }
    }

    impl<T> Drop for Strong<T> {
        fn drop(&mut self) {
            let last = self.count.fetch_sub(1, Ordering::Release) == 1;
            let value = self.value.take();
            if last {
                fence(Ordering::Acquire);
            }
            drop(value);
        }
    }

    pub(crate) struct WeakRef<T> {
        count: Arc<AtomicUsize>,
        value: Weak<T>,
    }

    impl<T> WeakRef<T> {
        pub(crate) fn upgrade(&self) -> Option<Strong<T>> {
            let up = |count: usize| (count > 0).then(|| count + 1);
            self.count
                .fetch_update(Ordering::Acquire, Ordering::Relaxed, up)
                .ok()?;
            let value = self.value.upgrade();
            assert!(value.is_some(), "the value outlives its count");
            Some(Strong {
                count: self.count.clone(),
                value,
            })
        }

        pub(crate) fn strong_count(&self) -> usize {
            self.count.load(Ordering::Relaxed)
        }
    }
}
