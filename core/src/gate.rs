//! The count of guards: cheap to enter and leave from many threads, exact about the last to leave.
//!
//! The count is the strong count of an `Arc`, one per shard. A guard is a clone of its thread's
//! shard: one locked instruction on a cache line that the thread has to itself, no allocation.
//! While the gate is open it holds one base reference to each shard; closing it drops those, so
//! that each shard dies with its last guard.
//!
//! # Invariants
//!
//! 1. A shard is alive exactly while the gate is open or one of its guards lives; `Arc` proves it.
//! 2. A dead shard never lives again: `Weak::upgrade` fails for good. So what has been found dead
//!    while walking the shards is still dead when the walk ends, and a walk that finds none alive
//!    has found the gate empty.
//! 3. `live` is the number of shards not yet dead. Only a shard's `Drop` lowers it, once for each.
//!    Whoever takes it to zero reports the gate empty: exactly one thread, exactly once.
//! 4. After it was reported empty nobody enters (by 2), so the report cannot come too early.
//! 5. Nothing here is dropped while a lock is held: a shard's `Drop` calls the owner back. Closing
//!    hands out the base references, for the caller to drop where it holds no lock either.

use std::sync::Arc;

use crate::sync::{AtomicUsize, Mutex, Ordering, Strong, WeakRef, lock};

/// Who is told, once, that the last guard of a closed gate has gone.
pub(crate) trait Owner: Send + Sync {
    fn gate_is_empty(self: &Arc<Self>);
}

/// One count of several that together are the count of guards.
//
// Aligned so that the reference counts in front of it have a cache line to themselves: 128 bytes,
// because adjacent lines are fetched in pairs.
#[repr(align(128))]
pub(crate) struct Shard<O: Owner> {
    owner: Arc<O>,
    live: Arc<AtomicUsize>,
}

impl<O: Owner> Shard<O> {
    pub(crate) fn owner(&self) -> &Arc<O> {
        &self.owner
    }
}

impl<O: Owner> Drop for Shard<O> {
    fn drop(&mut self) {
        // AcqRel: what each guard's holder did happens before what the owner does when told.
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.owner.gate_is_empty();
        }
    }
}

/// What holds an open gate open: a reference to each shard.
pub(crate) type Base<O> = Vec<Strong<Shard<O>>>;

pub(crate) struct Gate<O: Owner> {
    shards: Box<[WeakRef<Shard<O>>]>,
    base: Mutex<Base<O>>,
}

impl<O: Owner> Gate<O> {
    /// An open gate of `shards` parts, a power of two.
    pub(crate) fn open(shards: usize, owner: &Arc<O>) -> Self {
        let live = Arc::new(AtomicUsize::new(shards));
        let base: Vec<_> = (0..shards)
            .map(|_| {
                Strong::new(Shard {
                    owner: owner.clone(),
                    live: live.clone(),
                })
            })
            .collect();
        Self {
            shards: base.iter().map(Strong::downgrade).collect(),
            base: Mutex::new(base),
        }
    }

    /// Enters, unless the gate is empty and closed.
    pub(crate) fn enter(&self) -> Option<Strong<Shard<O>>> {
        let count = self.shards.len();
        let mine = crate::shard::of_this_thread(count);
        // The first is ours. The others are tried only once ours has died, that is, in a drain.
        (0..count).find_map(|i| self.shards[(mine + i) & (count - 1)].upgrade())
    }

    /// Closes the gate: it is empty when the last guard has gone and what is returned, too, has
    /// been dropped. To drop it may call the owner back.
    #[must_use = "dropped where a lock is held, it may call back into it"]
    pub(crate) fn close(&self) -> Base<O> {
        std::mem::take(&mut *lock(&self.base))
    }

    /// Opens a closed gate again; false if it was empty, and so stays closed.
    ///
    /// Shards that died meanwhile stay dead: their threads share what lives, at some cost in
    /// speed but none in exactness.
    pub(crate) fn reopen(&self) -> bool {
        let mut base = lock(&self.base);
        if base.is_empty() {
            base.extend(self.shards.iter().filter_map(WeakRef::upgrade));
        }
        !base.is_empty()
    }

    /// How many guards there are, roughly: they come and go while this counts.
    pub(crate) fn guards(&self) -> usize {
        let base = lock(&self.base).len();
        let strong: usize = self.shards.iter().map(WeakRef::strong_count).sum();
        strong.saturating_sub(base)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize as Count, Ordering};

    use super::*;

    #[derive(Default)]
    struct Told(Count);

    impl Owner for Told {
        fn gate_is_empty(self: &Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn is_empty_once_closed_and_left() {
        let told = Arc::new(Told::default());
        let gate = Gate::open(4, &told);
        let guard = gate.enter().unwrap();
        drop(gate.close());
        assert_eq!(told.0.load(Ordering::SeqCst), 0);
        let late = gate
            .enter()
            .expect("a closed gate that is not empty lets in");
        drop(guard);
        assert_eq!(told.0.load(Ordering::SeqCst), 0);
        assert_eq!(gate.guards(), 1);
        drop(late);
        assert_eq!(told.0.load(Ordering::SeqCst), 1);
        assert!(gate.enter().is_none());
        assert!(!gate.reopen());
    }

    #[test]
    fn reopens_while_a_guard_lives() {
        let told = Arc::new(Told::default());
        let gate = Gate::open(4, &told);
        let guard = gate.enter().unwrap();
        drop(gate.close());
        assert!(gate.reopen());
        drop(guard);
        assert_eq!(told.0.load(Ordering::SeqCst), 0);
        let guard = gate.enter().unwrap();
        drop(gate.close());
        drop(guard);
        assert_eq!(told.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn each_thread_enters_by_a_part_of_its_own() {
        let gate = Gate::open(64, &Arc::new(Told::default()));
        let entered = std::thread::scope(|scope| {
            let enter = || {
                let part = crate::shard::of_this_thread(64);
                (part, gate.enter().unwrap())
            };
            let threads = [0; 8].map(|_| scope.spawn(enter));
            threads.map(|thread| thread.join().unwrap())
        });
        for (part, guard) in &entered {
            for (other, guards) in &entered {
                assert_eq!(part == other, Strong::ptr_eq(guard, guards));
            }
        }
    }
}
