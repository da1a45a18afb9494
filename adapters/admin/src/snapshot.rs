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
/// For how long one will do.
const FRESH: Duration = Duration::from_millis(900);
/// Looking at every connection costs something where there are many: it never takes more than such a part
/// of the time, though what is seen is older then.
const PART: u32 = 50;
/// But no older than this.
const OLDEST: Duration = Duration::from_secs(5);

/// All that there is to see of a generation, at one moment.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover::Error> {
/// use handover::Generation;
/// use handover_admin::Snapshot;
///
/// let generation = Generation::start()?;
/// let _job = generation.graceful().hold("rebuild index");
/// let snapshot = Snapshot::of(&generation);
/// assert_eq!(snapshot.status.pid, std::process::id());
/// for holding in &snapshot.holders {
///     println!("{holding}");
/// }
/// # assert_eq!(snapshot.holders.len(), 1);
/// # Ok(())
/// # }
/// ```
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
    last: Mutex<Option<Last>>,
}

/// The last one that was made.
struct Last {
    at: Instant,
    text: Arc<str>,
    took: Duration,
    /// The same of the one before: what took long only once was kept from the processor by others.
    took_before: Duration,
}

impl Last {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < fresh_for(self.took.min(self.took_before))
    }
}

/// For how long one will do that takes so long to make.
fn fresh_for(took: Duration) -> Duration {
    (took * PART).clamp(FRESH, OLDEST)
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
        if let Some(last) = &*last
            && last.is_fresh()
        {
            return Ok(Arc::clone(&last.text));
        }
        let began = Instant::now();
        let text: Arc<str> = serde_json::to_string(&Snapshot::of(&self.generation))?.into();
        *last = Some(Last {
            at: Instant::now(),
            text: Arc::clone(&text),
            took: began.elapsed(),
            took_before: last.as_ref().map_or(Duration::ZERO, |last| last.took),
        });
        Ok(text)
    }

    pub(crate) fn generation(&self) -> &Generation {
        &self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_done_seldom() {
        let milliseconds = Duration::from_millis;
        assert_eq!(fresh_for(Duration::ZERO), FRESH);
        assert_eq!(fresh_for(milliseconds(10)), FRESH);
        assert_eq!(fresh_for(milliseconds(40)), milliseconds(2000));
        assert_eq!(fresh_for(Duration::from_secs(1)), OLDEST);
        assert_eq!(fresh_for(Duration::MAX / PART), OLDEST);
    }

    #[test]
    fn a_single_hiccup_makes_nothing_stale() {
        let last = |took, took_before| Last {
            at: Instant::now() - Duration::from_secs(2),
            text: "".into(),
            took,
            took_before,
        };
        let (short, long) = (Duration::from_millis(1), Duration::from_millis(200));
        assert!(!last(long, short).is_fresh() && !last(short, long).is_fresh());
        assert!(last(long, long).is_fresh());
    }
}
