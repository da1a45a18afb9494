//! For a program that holds the sockets of others and starts them: what the program `handover` of
//! `handover-supervisor` stands on.
//!
//! A [`ServiceSocket`] is opened by the rules of [`Generation::listen`](crate::Generation::listen)
//! and outlives whoever serves from it. [`Keeping`] carries descriptors over an `exec` of the
//! process by itself, so that it can replace its own program and keep its process id. [`PidFile`]
//! and [`Notifier`] are what a generation uses for the same.

use std::ffi::OsStr;

mod keeping;
mod socket;

pub use self::{
    keeping::{Keeping, kept},
    socket::ServiceSocket,
};
pub use crate::{pidfile::PidFile, systemd::Notifier};

/// The variable by which a supervisor tells the processes that it has started that they are its own:
/// its process id.
///
/// The supervisor may start another process beside such a one. So a
/// [`Generation`](crate::Generation) leaves it the pid file and the control socket, of which there
/// is one; and so do its successors.
pub const VARIABLE: &str = "HANDOVER_SUPERVISOR";

/// In a message to a supervisor: the number of the signal at which the process that says it, or that
/// is the main one from that message on, replaces itself; 0 if there is none. What becomes of it is
/// told as to systemd: `RELOADING=1`, then `MAINPID=` of the successor and `READY=1`, or `READY=1`
/// alone if it has failed.
pub const UPGRADE_SIGNAL: &str = "X_HANDOVER_UPGRADE_SIGNAL";

/// In a message to a supervisor: the process id of the successor that the sender has started, and
/// that is not the main process yet.
pub const SUCCESSOR: &str = "X_HANDOVER_SUCCESSOR";

/// Whether this process was started by a supervisor.
pub(crate) fn is_supervised() -> bool {
    let value = std::env::var_os(VARIABLE);
    names(value.as_deref(), std::os::unix::process::parent_id())
}

/// A variable that was inherited from a process of a supervisor names another than our parent.
fn names(value: Option<&OsStr>, parent: u32) -> bool {
    value
        .and_then(OsStr::to_str)
        .and_then(|text| text.parse().ok())
        == Some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_parent_is_our_supervisor() {
        assert!(names(Some(OsStr::new("77")), 77));
        for value in [None, Some("7"), Some(""), Some("x"), Some("-77")] {
            assert!(!names(value.map(OsStr::new), 77), "{value:?}");
        }
    }
}
