//! What a client does with its connection.

use std::fmt;

use serde::Serialize;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// One request after the other on a persistent connection.
    Keepalive,
    /// A persistent connection that is idle most of the time.
    Idle,
    /// A new connection for each request.
    Fresh,
    /// A persistent connection on which each request head arrives in three pieces.
    Dribble,
    /// An answer that takes its time, on a new connection.
    Slow,
    /// A long answer, sent in pieces, on a new connection; every byte is checked.
    Stream,
    /// A long request, sent in pieces, on a new connection; the answer proves that all of it arrived.
    Upload,
}

impl Kind {
    /// All kinds, in the order in which reports list them.
    pub const ALL: [Kind; 7] = [
        Kind::Keepalive,
        Kind::Idle,
        Kind::Fresh,
        Kind::Dribble,
        Kind::Slow,
        Kind::Stream,
        Kind::Upload,
    ];

    /// The name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Keepalive => "keepalive",
            Kind::Idle => "idle",
            Kind::Fresh => "fresh",
            Kind::Dribble => "dribble",
            Kind::Slow => "slow",
            Kind::Stream => "stream",
            Kind::Upload => "upload",
        }
    }

    /// Whether one connection serves many requests.
    #[must_use]
    pub fn is_persistent(self) -> bool {
        matches!(self, Kind::Keepalive | Kind::Idle | Kind::Dribble)
    }

    /// Whether an answer takes no longer than the server and the machine do.
    #[must_use]
    pub fn is_prompt(self) -> bool {
        matches!(self, Kind::Keepalive | Kind::Idle | Kind::Fresh)
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
