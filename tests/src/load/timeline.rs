//! Who answered when: generations, and what each restart did to the service.
//!
//! Invariants:
//!
//! 1. Instants come in order: each is taken under the lock of the recorder.
//! 2. A gap between two answers to `fresh` belongs to the mark that is the newest
//!    when the gap ends, so a gap that a restart begins is counted for it even if
//!    the answer before it came earlier.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

/// What was seen of one generation.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) pids: BTreeSet<u32>,
    pub(crate) first: Instant,
    pub(crate) last: Instant,
    pub(crate) answers: u64,
}

/// A moment at which the driver did something to the server.
#[derive(Clone, Debug)]
pub(crate) struct Marked {
    pub(crate) at: Instant,
    /// The generation that should answer in consequence.
    pub(crate) expected: u64,
    /// The first answer of that generation or a later one.
    pub(crate) took: Option<Duration>,
    pub(crate) longest_gap: Duration,
    pub(crate) gone: Option<Duration>,
    pub(crate) lost: u64,
}

#[derive(Debug)]
pub(crate) struct Timeline {
    pub(crate) start: Instant,
    pub(crate) generations: BTreeMap<u64, Seen>,
    pub(crate) marks: Vec<Marked>,
    /// The longest gap before the first mark.
    pub(crate) gap_before: Duration,
    last_fresh: Option<Instant>,
    finished: bool,
}

impl Timeline {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            generations: BTreeMap::new(),
            marks: Vec::new(),
            gap_before: Duration::ZERO,
            last_fresh: None,
            finished: false,
        }
    }

    pub(crate) fn answered(&mut self, now: Instant, pid: Option<u32>, generation: Option<u64>) {
        let Some(generation) = generation else { return };
        let seen = self.generations.entry(generation).or_insert_with(|| Seen {
            pids: BTreeSet::new(),
            first: now,
            last: now,
            answers: 0,
        });
        seen.pids.extend(pid);
        seen.last = now;
        seen.answers += 1;
        // Restarts may overlap: every mark that still waits for such a generation has it now.
        for mark in self.marks.iter_mut().rev() {
            if mark.took.is_none() && mark.expected <= generation {
                mark.took = Some(now - mark.at);
            } else if mark.took.is_some() {
                break;
            }
        }
    }

    pub(crate) fn answered_fresh(&mut self, now: Instant) {
        if !self.finished {
            self.close_gap(now);
            self.last_fresh = Some(now);
        }
    }

    pub(crate) fn lost(&mut self) {
        if let Some(mark) = self.marks.last_mut() {
            mark.lost += 1;
        }
    }

    pub(crate) fn mark(&mut self, now: Instant, expected: u64) -> usize {
        let (took, longest_gap, gone) = (None, Duration::ZERO, None);
        self.marks.push(Marked {
            at: now,
            expected,
            took,
            longest_gap,
            gone,
            lost: 0,
        });
        self.marks.len() - 1
    }

    pub(crate) fn gone(&mut self, now: Instant, mark: usize) {
        if let Some(mark) = self.marks.get_mut(mark) {
            mark.gone.get_or_insert(now - mark.at);
        }
    }

    /// Counts the gap that is open when the clients are told to stop. What comes later is no gap
    /// of the server's: nobody asks any more.
    pub(crate) fn finish(&mut self, now: Instant) {
        self.close_gap(now);
        self.finished = true;
    }

    fn close_gap(&mut self, now: Instant) {
        let Some(last) = self.last_fresh else { return };
        let longest = match self.marks.last_mut() {
            Some(mark) => &mut mark.longest_gap,
            None => &mut self.gap_before,
        };
        *longest = (*longest).max(now - last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_gap_belongs_to_the_mark_within_it() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start);
        timeline.answered_fresh(start + 10 * MS);
        timeline.answered_fresh(start + 14 * MS);
        timeline.mark(start + 15 * MS, 1);
        timeline.answered_fresh(start + 44 * MS);
        timeline.mark(start + 45 * MS, 2);
        timeline.finish(start + 50 * MS);
        assert_eq!(timeline.gap_before, 4 * MS);
        let gaps: Vec<_> = timeline.marks.iter().map(|mark| mark.longest_gap).collect();
        assert_eq!(gaps, [30 * MS, 6 * MS]);
    }

    #[test]
    fn overlapping_restarts_take_when_their_own_generation_answers() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start);
        timeline.answered(start, Some(7), Some(0));
        timeline.mark(start, 1);
        timeline.mark(start + MS, 2);
        timeline.answered(start + 2 * MS, Some(7), Some(0));
        assert!(timeline.marks.iter().all(|mark| mark.took.is_none()));
        timeline.answered(start + 3 * MS, Some(8), Some(1));
        timeline.answered(start + 5 * MS, Some(9), Some(2));
        timeline.answered(start + 9 * MS, Some(9), Some(2));
        let took: Vec<_> = timeline.marks.iter().map(|mark| mark.took).collect();
        assert_eq!(took, [Some(3 * MS), Some(4 * MS)]);
        assert_eq!(timeline.generations[&2].answers, 2);
    }
}
