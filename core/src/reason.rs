//! Why a drain began.

use std::fmt;

use serde::Serialize;

/// Why a drain began. It travels with the drain into logs and the report.
///
/// # Examples
///
/// ```
/// use handover::{Graceful, Reason};
///
/// let graceful = Graceful::new();
/// graceful.drain();
/// assert_eq!(graceful.reason(), Some(Reason::Program));
/// assert!(Reason::Upgrade { successor: 4711 }.is_upgrade());
/// assert!(!Reason::Signal(15).is_upgrade() && !Reason::Control.is_upgrade());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The program asked for it.
    #[default]
    Program,
    /// A signal asked for it; its number.
    Signal(i32),
    /// Somebody asked for it over the control socket.
    Control,
    /// A successor has taken over; its process id. The listening sockets live on in it, so the
    /// kernel's queue of unaccepted connections is left to it.
    Upgrade {
        /// Process id of the successor.
        successor: u32,
    },
}

impl Reason {
    /// Returns true if a successor serves on, so that nobody need be told that the service ends.
    #[must_use]
    pub fn is_upgrade(self) -> bool {
        matches!(self, Self::Upgrade { .. })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("the program"),
            Self::Signal(number) => match signal_name(*number) {
                Some(name) => f.write_str(name),
                None => write!(f, "signal {number}"),
            },
            Self::Control => f.write_str("the control socket"),
            Self::Upgrade { successor } => write!(f, "upgrade to pid {successor}"),
        }
    }
}

// The numbers are those of every Unix that tokio runs on (POSIX fixes 1, 2, 3 and 15; USR1 and
// USR2 differ, and then the number is shown).
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        15 => "SIGTERM",
        #[cfg(target_os = "linux")]
        10 => "SIGUSR1",
        #[cfg(target_os = "linux")]
        12 => "SIGUSR2",
        _ => return None,
    })
}
