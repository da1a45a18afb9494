//! All that there is to see, at one moment.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use handover::{Generation, Holding, status::Status};
use serde::Serialize;
use tokio::time::Instant;

/// How many holders are named. The rest is in the numbers.
const NAMED: usize = 100;
/// For how long one will do: looking at every connection costs something where there are many.
const FRESH: Duration = Duration::from_millis(900);

/// All that there is to see of a generation, at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Where it stands.
    #[serde(flatten)]
    pub status: Status,
    /// What holds its drain open, or would, the oldest first; idle connections are only in the
    /// numbers, and so is what goes beyond a hundred.
    pub holders: Vec<Holding>,
}

impl Snapshot {
    /// Looks at a generation.
    #[must_use]
    pub fn of(generation: &Generation) -> Self {
        let mut holders = generation.graceful().holders();
        holders.retain(|holder| !holder.kind.is_idle());
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.age));
        holders.truncate(NAMED);
        Self {
            status: generation.status(),
            holders,
        }
    }
}

/// Snapshots of one generation as JSON, for many who look.
pub(crate) struct Snapshots {
    generation: Generation,
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Snapshots {
    pub(crate) fn new(generation: Generation) -> Self {
        Self {
            generation,
            last: Mutex::new(None),
        }
    }

    /// One of this moment, or of shortly before.
    pub(crate) fn recent(&self) -> serde_json::Result<Arc<str>> {
        // Held while one is made, so that of many who ask one makes it.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, text)) = &*last
            && made.elapsed() < FRESH
        {
            return Ok(Arc::clone(text));
        }
        let text: Arc<str> = serde_json::to_string(&Snapshot::of(&self.generation))?.into();
        *last = Some((Instant::now(), Arc::clone(&text)));
        Ok(text)
    }

    pub(crate) fn generation(&self) -> &Generation {
        &self.generation
    }
}
