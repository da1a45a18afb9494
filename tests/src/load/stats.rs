//! Counting, while the storm runs.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    connection::Head,
    failure::{Failure, Loss},
    kind::Kind,
    latency::Latency,
    report::Sample,
    timeline::Timeline,
};

/// So many losses are kept word for word.
const SAMPLES: usize = 50;

/// What is known of one kind.
#[derive(Clone, Debug)]
pub(crate) struct PerKind {
    pub(crate) ok: u64,
    pub(crate) lost: [u64; Failure::ALL.len()],
    pub(crate) told: u64,
    pub(crate) found_closed: u64,
    pub(crate) reconnects: u64,
    /// From the last look to the end of a correct answer.
    pub(crate) latency: Latency,
}

#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) kinds: Vec<PerKind>,
    pub(crate) timeline: Timeline,
    pub(crate) samples: Vec<Sample>,
    /// Of what is answered at once, since somebody asked.
    pub(crate) recent: Latency,
}

/// Takes down what the clients see.
#[derive(Debug)]
pub(crate) struct Recorder {
    begun: AtomicU64,
    stats: Mutex<Stats>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let kind = PerKind {
            ok: 0,
            lost: [0; Failure::ALL.len()],
            told: 0,
            found_closed: 0,
            reconnects: 0,
            latency: Latency::default(),
        };
        let stats = Stats {
            kinds: vec![kind; Kind::ALL.len()],
            timeline: Timeline::new(Instant::now()),
            samples: Vec::new(),
            recent: Latency::default(),
        };
        Self {
            begun: AtomicU64::new(0),
            stats: Mutex::new(stats),
        }
    }

    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    pub(crate) fn answered(&self, kind: Kind, latency: Duration, head: &Head) {
        let mut stats = self.stats();
        let now = Instant::now();
        stats.timeline.answered(now, head.pid, head.generation);
        if kind == Kind::Fresh {
            stats.timeline.answered_fresh(now);
        }
        let of_kind = &mut stats.kinds[kind.index()];
        of_kind.ok += 1;
        of_kind.told += u64::from(head.close && kind.is_persistent());
        of_kind.latency.record(latency);
        if kind.is_prompt() {
            stats.recent.record(latency);
        }
    }

    pub(crate) fn lost(&self, kind: Kind, loss: Loss) {
        let mut stats = self.stats();
        let now = Instant::now();
        stats.kinds[kind.index()].lost[loss.failure as usize] += 1;
        stats.timeline.lost();
        if stats.samples.len() < SAMPLES {
            let timeline = &stats.timeline;
            let since_mark = timeline.marks.last().map(|mark| now - mark.at);
            let sample = Sample {
                at: now - timeline.start,
                since_mark,
                kind,
                failure: loss.failure,
                detail: loss.detail,
            };
            stats.samples.push(sample);
        }
    }

    pub(crate) fn found_closed(&self, kind: Kind) {
        self.stats().kinds[kind.index()].found_closed += 1;
    }

    pub(crate) fn reconnected(&self, kind: Kind) {
        self.stats().kinds[kind.index()].reconnects += 1;
    }

    /// The counters. A client that panicked while it held them left them whole: each update is
    /// one addition.
    pub(crate) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
