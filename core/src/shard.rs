//! Which of several like parts a thread uses, so that threads do not share a cache line.

use std::{cell::Cell, sync::OnceLock};

/// How many parts a sharded structure has: a power of two, so that a slot is chosen by a mask.
///
/// Twice the processors, since two threads then rarely meet in one part; at most 64, beyond which
/// walking all of them costs more than meeting does.
pub(crate) fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    // A model of two threads needs two parts, and every more multiplies what there is to explore.
    if cfg!(loom) {
        return 2;
    }
    *COUNT.get_or_init(|| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (threads * 2).next_power_of_two().min(64)
    })
}

/// The part that belongs to the calling thread, out of `count` (a power of two).
pub(crate) fn of_this_thread(count: usize) -> usize {
    #[cfg(loom)]
    {
        return this_loom_thread() & (count - 1);
    }
    #[cfg(not(loom))]
    {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
        }
        // A thread that is being torn down has lost its slot; any part will do.
        let slot = SLOT.try_with(|slot| {
            if slot.get() == usize::MAX {
                slot.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            slot.get()
        });
        slot.unwrap_or(0) & (count - 1)
    }
}

#[cfg(loom)]
fn this_loom_thread() -> usize {
    loom::thread_local! {
        static SLOT: Cell<usize> = Cell::new(usize::MAX);
    }
    loom::lazy_static! {
        static ref NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    }
    SLOT.with(|slot| {
        if slot.get() == usize::MAX {
            slot.set(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
        slot.get()
    })
}
