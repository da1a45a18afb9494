//! What the exit status says, for scripts. Clap exits with 2 where it cannot read the arguments.

use std::process::ExitCode;

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// The upgrade or the check failed. The service is what it was.
    Failed = 1,
    /// The arguments are wrong.
    Usage = 2,
    /// The service refused: nothing has been done.
    Refused = 3,
    /// Nobody could be asked.
    Unreachable = 4,
    /// The service has gone without an outcome, or nobody serves any more.
    Lost = 5,
    /// The time was over first. What was asked for goes on.
    TimedOut = 6,
    /// It is done, and something was cut at the deadline.
    Incomplete = 7,
}

/// The same for people.
pub(crate) const HELP: &str = "\
Exit status:
  0  done
  1  the upgrade or the check failed; the service is what it was
  2  the arguments are wrong
  3  refused (stale, under way already, not ready, draining, not permitted); nothing was done
  4  the service cannot be reached
  5  the service has gone without an outcome
  6  the time was over; what was asked for goes on
  7  done, but something was cut at the deadline";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
