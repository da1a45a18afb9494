//! How a request can be lost.

use std::{fmt, io};

use serde::Serialize;

/// The class of a loss.
///
/// *Fresh* is the first request of a connection, *reused* any later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failure {
    /// Nobody listened.
    ConnectRefused,
    /// The connection could not be made for another reason, or was reset while it was made.
    ConnectOther,
    /// A new connection ended without a byte of an answer.
    FreshEof,
    /// A new connection was reset before a byte of an answer.
    FreshReset,
    /// A persistent connection ended without a byte of an answer to this request.
    ReusedEof,
    /// A persistent connection was reset before a byte of an answer to this request.
    ReusedReset,
    /// The answer began, and the connection ended before the answer did.
    Truncated,
    /// The answer was not complete in time.
    Timeout,
    /// An answer with another status than 200, or one that is not HTTP/1.1.
    BadStatus,
    /// A complete answer with a body that is not the one asked for.
    BadBody,
}

impl Failure {
    /// All classes, in the order in which reports list them.
    pub const ALL: [Failure; 10] = [
        Failure::ConnectRefused,
        Failure::ConnectOther,
        Failure::FreshEof,
        Failure::FreshReset,
        Failure::ReusedEof,
        Failure::ReusedReset,
        Failure::Truncated,
        Failure::Timeout,
        Failure::BadStatus,
        Failure::BadBody,
    ];

    /// The name, in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Failure::ConnectRefused => "connect_refused",
            Failure::ConnectOther => "connect_other",
            Failure::FreshEof => "fresh_eof",
            Failure::FreshReset => "fresh_reset",
            Failure::ReusedEof => "reused_eof",
            Failure::ReusedReset => "reused_reset",
            Failure::Truncated => "truncated",
            Failure::Timeout => "timeout",
            Failure::BadStatus => "bad_status",
            Failure::BadBody => "bad_body",
        }
    }

    /// The class of a connection that ended without an answer, cleanly or by a reset.
    pub(crate) fn unanswered(reused: bool, reset: bool) -> Self {
        match (reused, reset) {
            (false, false) => Failure::FreshEof,
            (false, true) => Failure::FreshReset,
            (true, false) => Failure::ReusedEof,
            (true, true) => Failure::ReusedReset,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A lost request: the class, and what exactly was seen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loss {
    /// The class.
    pub failure: Failure,
    /// What was seen, for people.
    pub detail: String,
}

impl Loss {
    pub(crate) fn new(failure: Failure, detail: impl Into<String>) -> Self {
        Self {
            failure,
            detail: detail.into(),
        }
    }

    pub(crate) fn connect(error: &io::Error) -> Self {
        let failure = match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::ConnectRefused,
            _ => Failure::ConnectOther,
        };
        Self::new(failure, error.to_string())
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.failure, self.detail)
    }
}

impl std::error::Error for Loss {}
