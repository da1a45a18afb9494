//! What is kept of each server.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;

use crate::load::Quantiles;

/// A look at a server, once a second.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Sampled {
    /// Since the start of the soak.
    pub at: Duration,
    /// How long answers took since the look before.
    pub latency: Quantiles,
    /// Memory of the newest generation that is no file's, in KiB.
    pub memory_kib: u64,
    /// Its open descriptors.
    pub descriptors: usize,
}

/// Something that was done to a server.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Happened {
    /// Since the start of the soak.
    pub at: Duration,
    /// Until the service was whole again.
    pub took: Duration,
    /// What sort of event it was.
    pub sort: &'static str,
    /// Which it was.
    pub what: String,
    /// Requests that were lost inside of a process that was killed.
    pub lost: u64,
}

/// What there is of one server.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were lost.
    pub lost: u64,
    /// Of them, those of clients that came too late for a connection of which they had been told that it
    /// would be closed, since this machine had other things to do. All others were inside of a process
    /// that was killed.
    pub lost_late: u64,
    /// Lives that came to their end.
    pub lives: u64,
    /// Generations that served.
    pub generations: u64,
    /// Memory of each generation in KiB, at the same point of its life: it has replaced another, and
    /// served for a second since.
    pub memory_at_rest_kib: Vec<u64>,
    /// What was done to it.
    pub events: Vec<Happened>,
    /// How it was.
    pub samples: Vec<Sampled>,
}

impl Record {
    /// How many events of a sort there were.
    #[must_use]
    pub fn events_of(&self, sort: &str) -> usize {
        self.events
            .iter()
            .filter(|event| event.sort == sort)
            .count()
    }

    /// Memory at rest in the first and in the last fifth of the time, if there is enough to say so.
    #[must_use]
    pub fn memory_first_and_last(&self) -> Option<(u64, u64)> {
        let all = &self.memory_at_rest_kib;
        let fifth = all.len() / 5;
        (fifth >= 4).then(|| (median(&all[..fifth]), median(&all[all.len() - fifth..])))
    }
}

fn median(of: &[u64]) -> u64 {
    let mut of = of.to_vec();
    of.sort_unstable();
    of[of.len() / 2]
}

/// A record that is still written, and read to show how far it is.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<Record>>);

impl Kept {
    /// The record.
    pub fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
