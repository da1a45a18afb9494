//! Processes that were started by those that we have started.
//!
//! A number in a message is only a claim. What is opened here is the process that had this number
//! while it was seen to descend from another one; from then on it is named by its pidfd.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

/// The longest way up that is gone.
const DEEPEST: usize = 64;
/// How often it is gone: a process in the middle may end meanwhile, and what it has started is then
/// somebody else's.
const TRIES: usize = 3;

/// Opens a process that descends from another one, and lives.
///
/// # Errors
///
/// In words, if it does not.
pub(crate) fn open(pid: u32, from: u32) -> io::Result<OwnedFd> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number.ok_or_else(|| super::other("it is no process id"))?;
    let fd = pidfd_open(number, PidfdFlags::NONBLOCK)?;
    // In this order: one that lives after we have looked is the one that we have looked at.
    let descends = descends(pid, from);
    if has_ended(&fd) {
        return Err(super::other("it has ended"));
    }
    match descends {
        true => Ok(fd),
        false => Err(super::other("none of ours has started it")),
    }
}

/// Returns true if a process has been started by the other one, or by one that was.
pub(crate) fn descends(pid: u32, from: u32) -> bool {
    (0..TRIES).any(|_| {
        let mut way = std::iter::successors(parent(pid), |pid| parent(*pid));
        way.by_ref().take(DEEPEST).any(|one| one == from)
    })
}

/// Returns true if the process has ended, whether or not it has been reaped.
pub(crate) fn has_ended(pidfd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
    (parent != 0).then_some(parent)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_what_lives_and_descends_is_opened() {
        let us = std::process::id();
        let mut sleeper = Command::new("sleep");
        let mut sleeper = sleeper.arg("600").stdin(Stdio::null()).spawn().unwrap();
        let fd = open(sleeper.id(), us).unwrap();
        assert!(!has_ended(&fd));
        assert!(open(us, sleeper.id()).is_err() && open(us, us).is_err());
        assert!(open(1, us).is_err() && open(0, us).is_err() && open(u32::MAX, us).is_err());
        sleeper.kill().unwrap();
        while !has_ended(&fd) {
            std::thread::yield_now();
        }
        // It has not been reaped, so its number is still its own.
        let why = open(sleeper.id(), us).unwrap_err();
        assert!(why.to_string().contains("ended"), "{why}");
        sleeper.wait().unwrap();
        assert!(open(sleeper.id(), us).is_err());
    }
}
