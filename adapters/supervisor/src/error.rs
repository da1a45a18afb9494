//! Why a service could not be asked, or gave no answer.

use std::{error::Error as StdError, fmt, io, path::Path};

/// Why a service could not be asked, or gave no outcome. What it was asked for goes on.
///
/// # Examples
///
/// ```
/// use handover_supervisor::Error;
///
/// /// Whether the service may have done what it was asked for.
/// fn may_have_begun(error: &Error) -> bool {
///     if error.is_timeout() {
///         println!("it is not done yet");
///     }
///     error.is_lost() || error.is_timeout() || !error.is_unreachable()
/// }
/// ```
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unreachable,
    Lost,
    TimedOut,
}

impl Error {
    pub(crate) fn unreachable(path: &Path, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::NotFound => "; is the path right, and does the service run?",
            io::ErrorKind::ConnectionRefused => "; nobody listens there: the service has died",
            io::ErrorKind::PermissionDenied => "; only the service's user and root may",
            _ => "",
        };
        Self {
            kind: Kind::Unreachable,
            message: format!(
                "cannot connect to the control socket {}{hint}",
                path.display()
            ),
            source: Some(source),
        }
    }

    pub(crate) fn lost(message: impl Into<String>, source: Option<io::Error>) -> Self {
        Self {
            kind: Kind::Lost,
            message: message.into(),
            source,
        }
    }

    pub(crate) fn timed_out() -> Self {
        Self {
            kind: Kind::TimedOut,
            message: "the time is over; what was asked for may go on".to_owned(),
            source: None,
        }
    }

    /// Returns true if nobody could be asked.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.kind == Kind::Unreachable
    }

    /// Returns true if the connection ended before there was an outcome: the service has died, or
    /// what speaks there is none.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.kind == Kind::Lost
    }

    /// Returns true if there was no outcome by the deadline.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::TimedOut
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
