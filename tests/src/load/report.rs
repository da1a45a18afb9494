//! What came of a storm.

use std::{fmt, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use super::{failure::Failure, kind::Kind, stats::Stats};

/// The counts of one kind of traffic.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct KindReport {
    /// Which kind.
    pub kind: Kind,
    /// Requests: those answered and those lost.
    pub requests: u64,
    /// Complete, correct answers.
    pub ok: u64,
    /// Losses by class; classes that did not occur are left out.
    pub losses: Vec<(Failure, u64)>,
    /// Correct answers on persistent connections that said `connection: close`.
    pub told: u64,
    /// Persistent connections that were closed when the client looked before its next request.
    pub found_closed: u64,
    /// How often a client that keeps its connection had to open another one.
    pub reconnects: u64,
    /// 99 of 100 correct answers were complete within this.
    pub p99: Duration,
    /// All correct answers were complete within this, to two digits.
    pub max: Duration,
}

impl KindReport {
    /// How many requests were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.losses.iter().map(|(_, count)| count).sum()
    }
}

/// What was seen of one generation of the server.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GenerationReport {
    /// Its number.
    pub generation: u64,
    /// The processes that answered under this number; more than one is a fault of the server.
    pub pids: Vec<u32>,
    /// First answer, since the start of the storm.
    pub first: Duration,
    /// Last answer, since the start of the storm.
    pub last: Duration,
    /// Answers.
    pub answers: u64,
}

/// What followed one [mark](super::Storm::mark).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MarkReport {
    /// Since the start of the storm.
    pub at: Duration,
    /// The generation that was to come.
    pub expected: u64,
    /// From the mark to the first answer of that generation; `None` if it never answered.
    pub took: Option<Duration>,
    /// The longest time between two answers to `fresh` that ended between this mark and the next.
    pub longest_gap: Duration,
    /// From the mark until the replaced process was gone; `None` if the driver did not say.
    pub gone: Option<Duration>,
    /// Requests lost between this mark and the next.
    pub lost: u64,
}

/// One lost request.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// Since the start of the storm.
    pub at: Duration,
    /// Since the last mark before it.
    pub since_mark: Option<Duration>,
    /// Which kind of traffic.
    pub kind: Kind,
    /// The class of the loss.
    pub failure: Failure,
    /// What was seen.
    pub detail: String,
}

/// What came of a [`Storm`](super::Storm). `Display` gives the counts and the first losses.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// From the start to the stop.
    pub elapsed: Duration,
    /// By kind; kinds without a request are left out.
    pub kinds: Vec<KindReport>,
    /// By generation, the oldest first.
    pub generations: Vec<GenerationReport>,
    /// By mark, in their order.
    pub marks: Vec<MarkReport>,
    /// The longest time between two answers to `fresh` before the first mark: what this machine
    /// does without any restart.
    pub gap_before: Duration,
    /// The first losses, in their order.
    pub samples: Vec<Sample>,
}

impl Report {
    pub(crate) fn new(stats: &Stats, elapsed: Duration) -> Self {
        let kinds = Kind::ALL
            .into_iter()
            .zip(&stats.kinds)
            .map(|(kind, of)| KindReport {
                kind,
                requests: of.ok + of.lost.iter().sum::<u64>(),
                ok: of.ok,
                losses: Failure::ALL
                    .into_iter()
                    .zip(of.lost)
                    .filter(|(_, count)| *count > 0)
                    .collect(),
                told: of.told,
                found_closed: of.found_closed,
                reconnects: of.reconnects,
                p99: of.latency.quantiles().p99,
                max: of.latency.quantiles().max,
            });
        let timeline = &stats.timeline;
        let since_start = |at: Instant| at - timeline.start;
        Self {
            elapsed,
            kinds: kinds.filter(|kind| kind.requests > 0).collect(),
            generations: timeline
                .generations
                .iter()
                .map(|(generation, seen)| GenerationReport {
                    generation: *generation,
                    pids: seen.pids.iter().copied().collect(),
                    first: since_start(seen.first),
                    last: since_start(seen.last),
                    answers: seen.answers,
                })
                .collect(),
            marks: timeline
                .marks
                .iter()
                .map(|mark| MarkReport {
                    at: since_start(mark.at),
                    expected: mark.expected,
                    took: mark.took,
                    longest_gap: mark.longest_gap,
                    gone: mark.gone,
                    lost: mark.lost,
                })
                .collect(),
            gap_before: timeline.gap_before,
            samples: stats.samples.clone(),
        }
    }

    /// All requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.requests).sum()
    }

    /// All lost requests.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.kinds.iter().map(KindReport::lost).sum()
    }

    /// How many requests of any kind were lost as `failure`.
    #[must_use]
    pub fn lost_as(&self, failure: Failure) -> u64 {
        let losses = self.kinds.iter().flat_map(|kind| &kind.losses);
        losses
            .filter(|(class, _)| *class == failure)
            .map(|(_, count)| count)
            .sum()
    }

    /// All answers on persistent connections that said `connection: close`.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.told).sum()
    }

    /// All persistent connections that were found closed.
    #[must_use]
    pub fn found_closed(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.found_closed).sum()
    }

    /// How often clients that keep their connections had to open other ones.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.reconnects).sum()
    }

    /// The counts of one kind, if it had a request.
    #[must_use]
    pub fn kind(&self, kind: Kind) -> Option<&KindReport> {
        self.kinds.iter().find(|report| report.kind == kind)
    }

    /// How many marks were followed by an answer of the generation that was to come.
    #[must_use]
    pub fn restarts_taken(&self) -> usize {
        self.marks.iter().filter(|mark| mark.took.is_some()).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} requests in {:.1} s, {} lost; {} of {} restarts took",
            self.requests(),
            self.elapsed.as_secs_f64(),
            self.lost(),
            self.restarts_taken(),
            self.marks.len()
        )?;
        for kind in &self.kinds {
            write!(
                f,
                "{:10}{:>9} requests, {} lost, {} told, {} found closed, {} reconnects, p99 {:?}, max {:?}",
                kind.kind,
                kind.requests,
                kind.lost(),
                kind.told,
                kind.found_closed,
                kind.reconnects,
                kind.p99,
                kind.max
            )?;
            for (failure, count) in &kind.losses {
                write!(f, ", {failure} {count}")?;
            }
            writeln!(f)?;
        }
        for sample in &self.samples {
            write!(f, "lost at {:.3} s", sample.at.as_secs_f64())?;
            if let Some(since) = sample.since_mark {
                write!(f, " ({:.3} s after the mark)", since.as_secs_f64())?;
            }
            writeln!(f, ": {} {}: {}", sample.kind, sample.failure, sample.detail)?;
        }
        Ok(())
    }
}
