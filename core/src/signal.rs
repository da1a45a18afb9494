//! A phase that many tasks watch, and the list of who is there.
//!
//! Looking is one load. A task that wants to be woken registers once, in its thread's lot; polled
//! again, it compares a number and a waker, without a lock. The same entry says, when asked, what
//! its task is: that is how holders are listed at no cost to those who are not asked.
//!
//! # Invariants
//!
//! 1. The word is written before the lots are walked, and each lot is walked under its lock.
//! 2. A task stores its waker under its lot's lock and looks at the word again after that. So
//!    either the walk finds the waker, or the task finds the new word: no wake-up is lost.
//! 3. The word never takes the same value twice: its upper bits count the changes. A task that
//!    remembers a word knows whether it has changed, even when the phase went forth and back.
//! 4. A walk takes only wakers that were stored for an older word than the one it walks for. A
//!    task that has registered for the new word keeps its waker, and may rely on it when it is
//!    polled again for another reason.
//! 5. Wakers are called with no lock held.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use slab::Slab;

use crate::{
    holder::Describe,
    phase::Phase,
    sync::{AtomicU32, Mutex, Ordering, lock},
};

const PHASE_BITS: u32 = 8;

/// A phase and how often it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u32);

impl Word {
    pub(crate) fn phase(self) -> Phase {
        Phase::from_u8(self.0 as u8)
    }

    #[cfg(all(test, loom))]
    pub(crate) fn changes(self) -> u32 {
        self.0 >> PHASE_BITS
    }

    // The counts may wrap round: older is what lies less than half the way round behind.
    fn is_older_than(self, other: Self) -> bool {
        let behind = (other.0 >> PHASE_BITS).wrapping_sub(self.0 >> PHASE_BITS);
        let behind = behind << PHASE_BITS;
        behind != 0 && behind >> 31 == 0
    }

    fn next(self, phase: Phase) -> Self {
        let changes = (self.0 >> PHASE_BITS).wrapping_add(1);
        Self(changes << PHASE_BITS | phase as u32)
    }
}

struct Entry {
    // With the word that its task had seen.
    waker: Option<(Word, Waker)>,
    subject: Option<Arc<dyn Describe>>,
}

// A lot to a thread; aligned for the same reason as a shard of the gate.
#[repr(align(128))]
struct Lot(Mutex<Slab<Entry>>);

pub(crate) struct Signal {
    word: AtomicU32,
    lots: Box<[Lot]>,
}

/// A task's place in a lot. Give it back with [`Signal::leave`].
#[derive(Debug)]
pub(crate) struct Place {
    lot: u32,
    key: u32,
    // What was registered, and the word it was registered for.
    seen: Option<(Word, Waker)>,
}

impl Signal {
    pub(crate) fn new(phase: Phase) -> Self {
        Self {
            word: AtomicU32::new(phase as u32),
            lots: (0..crate::shard::count())
                .map(|_| Lot(Mutex::new(Slab::new())))
                .collect(),
        }
    }

    pub(crate) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Takes a place; who is a holder says what it is.
    pub(crate) fn join(&self, subject: Option<Arc<dyn Describe>>) -> Place {
        let lot = crate::shard::of_this_thread(self.lots.len());
        let key = lock(&self.lots[lot].0).insert(Entry {
            waker: None,
            subject,
        });
        Place {
            lot: lot as u32,
            key: key as u32,
            seen: None,
        }
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, place: &Place) {
        let entry = lock(&self.lots[place.lot as usize].0).try_remove(place.key as usize);
        // Dropped here, after the lock: a waker's drop may run a task's destructor.
        drop(entry);
    }

    /// The current word; the task is woken when it changes.
    pub(crate) fn watch(&self, place: &mut Place, cx: &Context<'_>) -> Word {
        let mut word = self.word();
        if let Some((seen, waker)) = &place.seen
            && *seen == word
            && waker.will_wake(cx.waker())
        {
            return word;
        }
        // Stored whatever `will_wake` says of it: that may deny even that a clone is one.
        loop {
            let waker = cx.waker().clone();
            let mut stored = Some((word, waker.clone()));
            {
                let mut lot = lock(&self.lots[place.lot as usize].0);
                if let Some(entry) = lot.get_mut(place.key as usize) {
                    std::mem::swap(&mut entry.waker, &mut stored);
                }
            }
            // The old one, if there was one: dropped with no lock held.
            drop(stored);
            place.seen = Some((word, waker));
            let now = self.word();
            if now == word {
                return word;
            }
            word = now;
        }
    }

    /// Ready with the word whenever it is another one than was `told` last.
    ///
    /// Who is told something is not woken for it as well, and so is not registered then.
    pub(crate) fn poll_change(
        &self,
        place: &mut Place,
        told: &mut Option<Word>,
        cx: &Context<'_>,
    ) -> Poll<Word> {
        let mut word = self.word();
        if *told == Some(word) {
            word = self.watch(place, cx);
            if *told == Some(word) {
                return Poll::Pending;
            }
        }
        *told = Some(word);
        Poll::Ready(word)
    }

    /// Sets the phase. Follow it with [`wake`](Self::wake) once no lock is held.
    ///
    /// The caller sees to it that one thread at a time sets.
    pub(crate) fn set(&self, phase: Phase) {
        let next = self.word().next(phase);
        self.word.store(next.0, Ordering::Release);
    }

    /// Wakes everybody who has seen no word but older ones.
    pub(crate) fn wake(&self) {
        let word = self.word();
        let mut wakers = Vec::new();
        for lot in &self.lots {
            wakers.extend(lock(&lot.0).iter_mut().filter_map(|(_, entry)| {
                let (_, waker) = entry.waker.take_if(|(seen, _)| seen.is_older_than(word))?;
                Some(waker)
            }));
            wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// What the holders say of themselves.
    pub(crate) fn subjects(&self) -> Vec<Arc<dyn Describe>> {
        let mut all = Vec::new();
        for lot in &self.lots {
            let lot = lock(&lot.0);
            all.extend(lot.iter().filter_map(|(_, entry)| entry.subject.clone()));
        }
        all
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_are_older_than_those_after_them_even_when_the_count_wraps() {
        let first = Word(u32::MAX << PHASE_BITS);
        let second = first.next(Phase::Draining);
        assert_eq!(second, Word(Phase::Draining as u32));
        assert!(first.is_older_than(second));
        assert!(!second.is_older_than(first));
        assert!(!first.is_older_than(first));
        assert!(second.is_older_than(second.next(Phase::Draining)));
    }
}
