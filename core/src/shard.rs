//! Which of several like parts a thread uses, so that threads do not share a cache line.

pub(crate) use imp::{count, of_this_thread};

#[cfg(not(loom))]
mod imp {
    use std::{
        cell::Cell,
        sync::{
            OnceLock,
            atomic::{AtomicUsize, Ordering},
        },
    };

    /// How many parts a sharded structure has: a power of two, so that a slot is chosen by a mask.
    ///
    /// Twice the processors, since two threads then rarely meet in one part; at most 64, beyond
    /// which walking all of them costs more than meeting does.
    pub(crate) fn count() -> usize {
        static COUNT: OnceLock<usize> = OnceLock::new();
        *COUNT.get_or_init(|| {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            (threads * 2).next_power_of_two().min(64)
        })
    }

    /// The part that belongs to the calling thread, out of `count` (a power of two).
    pub(crate) fn of_this_thread(count: usize) -> usize {
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
mod imp {
    // A model of two threads needs two parts, and every more multiplies what there is to explore.
    pub(crate) fn count() -> usize {
        2
    }

    // loom numbers its threads anew for each iteration, so that a thread has the same part in all
    // of them. It tells the number only in the text of the id.
    pub(crate) fn of_this_thread(count: usize) -> usize {
        let id = format!("{:?}", loom::thread::current().id());
        let digits = id.bytes().filter(u8::is_ascii_digit);
        digits.fold(0, |id, digit| id * 10 + usize::from(digit - b'0')) & (count - 1)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    #[test]
    fn there_are_parts_for_twice_the_processors() {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let count = count();
        assert!(count.is_power_of_two() && count <= 64, "{count}");
        assert!(count >= (2 * threads).min(64), "{count} for {threads}");
    }

    #[test]
    fn each_thread_keeps_a_part_of_its_own() {
        // More parts than there are threads in this process, ever.
        let many = 1 << 20;
        let threads: Vec<_> = (0..8)
            .map(|_| thread::spawn(move || (of_this_thread(many), of_this_thread(many))))
            .collect();
        let parts: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(parts.iter().all(|(first, again)| first == again));
        let distinct: HashSet<_> = parts.iter().map(|(part, _)| part).collect();
        assert_eq!(distinct.len(), parts.len(), "{parts:?}");
    }
}
