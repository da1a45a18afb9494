//! The upgrades of a service, over all its generations.
//!
//! Each generation leaves what it knows to the next one, so that who asks the newest process hears
//! also of what failed before it came to be.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::PastUpgrade;
use crate::text::shortened;

/// How many are remembered.
const KEPT: usize = 16;
/// The longest text of one, in bytes: what failed may have had much to say.
const LONGEST: usize = 1024;

/// Under this name a generation leaves it.
pub(crate) const NAME: &str = "handover.history";
/// The form in which it is left.
pub(crate) const VERSION: u32 = 1;

/// What has been, the oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct History {
    failed: u64,
    upgrades: VecDeque<Entry>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Entry {
    generation: u64,
    error: Option<String>,
    /// In seconds since 1970: it is read by another process.
    at: f64,
}

impl History {
    /// What a predecessor has left. What cannot be read is not worth failing for.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|err| {
            tracing::debug!(%err, "what the predecessor says of earlier upgrades cannot be read");
            Self::default()
        })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers can be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// An upgrade to this generation has ended.
    pub(crate) fn add(&mut self, generation: u64, error: Option<&str>) {
        self.failed += u64::from(error.is_some());
        if self.upgrades.len() == KEPT {
            self.upgrades.pop_front();
        }
        self.upgrades.push_back(Entry {
            generation,
            error: error.map(|error| shortened(error, LONGEST).to_owned()),
            at: now(),
        });
    }

    /// How many have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// The last ones, the newest first.
    pub(crate) fn recent(&self) -> Vec<PastUpgrade> {
        let now = now();
        let newest_first = self.upgrades.iter().rev();
        newest_first
            .map(|entry| PastUpgrade {
                generation: entry.generation,
                error: entry.error.clone(),
                // The clock may have been put back.
                ago: Duration::try_from_secs_f64(now - entry.at).unwrap_or_default(),
            })
            .collect()
    }
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_from_generation_to_generation_and_does_not_grow() {
        let mut history = History::default();
        for generation in 1..=40 {
            let failed = generation % 4 == 0;
            history.add(generation, failed.then_some("no database"));
            history = History::read(&history.to_bytes());
        }
        assert_eq!(history.failed(), 10);
        let recent = history.recent();
        assert_eq!(recent.len(), KEPT);
        assert_eq!(recent[0].generation, 40);
        assert_eq!(recent[0].error.as_deref(), Some("no database"));
        assert_eq!(recent[1].error, None);
        assert!(recent.iter().all(|past| past.ago < Duration::from_secs(60)));
    }

    #[test]
    fn much_text_is_cut_between_two_characters() {
        let mut history = History::default();
        history.add(1, Some(&"ü".repeat(LONGEST)));
        let error = history.recent()[0].error.clone().unwrap();
        assert_eq!(error, "ü".repeat(LONGEST / 2));
    }

    #[test]
    fn nonsense_is_as_good_as_nothing() {
        for bytes in [&b""[..], b"\xff", b"[]", b"{\"upgrades\":7}"] {
            assert_eq!(History::read(bytes).failed(), 0);
        }
        let later = br#"{"failed":2,"upgrades":[{"generation":3,"at":1.0,"by":"me"}],"new":1}"#;
        let history = History::read(later);
        assert_eq!((history.failed(), history.recent()[0].generation), (2, 3));
    }
}
