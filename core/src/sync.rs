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
    use std::{ops::Deref, sync::Arc};

    use loom::sync::atomic::{AtomicUsize, Ordering, fence};

    struct Inner<T> {
        strong: AtomicUsize,
        value: loom::sync::Mutex<Option<Arc<T>>>,
    }

    /// Counts as `std::sync::Arc` does, with loom's atomics.
    pub(crate) struct Strong<T> {
        inner: Arc<Inner<T>>,
        // A second owner of the value, so that `Deref` needs no lock. Dropped before the count
        // falls: whoever takes the count to zero then drops the value for good.
        value: Option<Arc<T>>,
    }

    impl<T> Strong<T> {
        pub(crate) fn new(value: T) -> Self {
            let value = Arc::new(value);
            let inner = Inner {
                strong: AtomicUsize::new(1),
                value: loom::sync::Mutex::new(Some(value.clone())),
            };
            Self {
                inner: Arc::new(inner),
                value: Some(value),
            }
        }

        pub(crate) fn downgrade(this: &Self) -> WeakRef<T> {
            WeakRef {
                inner: this.inner.clone(),
            }
        }
    }

    impl<T> Clone for Strong<T> {
        fn clone(&self) -> Self {
            self.inner.strong.fetch_add(1, Ordering::Relaxed);
            Self {
                inner: self.inner.clone(),
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
            drop(self.value.take());
            if self.inner.strong.fetch_sub(1, Ordering::Release) == 1 {
                fence(Ordering::Acquire);
                let value = self.inner.value.lock().expect("not poisoned").take();
                drop(value);
            }
        }
    }

    pub(crate) struct WeakRef<T> {
        inner: Arc<Inner<T>>,
    }

    impl<T> WeakRef<T> {
        pub(crate) fn upgrade(&self) -> Option<Strong<T>> {
            let mut count = self.inner.strong.load(Ordering::Relaxed);
            loop {
                if count == 0 {
                    return None;
                }
                match self.inner.strong.compare_exchange_weak(
                    count,
                    count + 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => break,
                    Err(now) => count = now,
                }
            }
            let value = self.inner.value.lock().expect("not poisoned").clone();
            Some(Strong {
                inner: self.inner.clone(),
                value,
            })
        }

        pub(crate) fn strong_count(&self) -> usize {
            self.inner.strong.load(Ordering::Relaxed)
        }
    }
}
