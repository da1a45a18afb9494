//! Starts the program with its descriptors.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{
    Pid, Signal as Number, getpgid, kill_process, kill_process_group, pidfd_send_signal,
};

use super::{environment::Environment, shim, user::Identity};

/// What to start.
pub(crate) struct Start<'a> {
    pub(crate) program: &'a OsStr,
    pub(crate) args: &'a [std::ffi::OsString],
    pub(crate) environment: Environment,
    /// Descriptors, and the numbers that they are to have.
    pub(crate) fds: Vec<(OwnedFd, i32)>,
    pub(crate) identity: Option<Identity>,
    /// Whether `LISTEN_PID` is set.
    pub(crate) pid: bool,
    /// Where it writes to, if not where we do.
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// Starts it in a process group of its own, so that what is typed at a terminal reaches us alone,
/// and so that it can be killed with all that it has started. Nobody but us may wait for it.
pub(crate) fn start(start: Start<'_>) -> io::Result<u32> {
    // This very program, even if its file has been replaced.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("handover")
        .args(shim::args(start.identity.as_ref(), start.pid))
        .arg(start.program)
        .args(start.args)
        .env_clear()
        .envs(start.environment)
        .process_group(0);
    if let Some(stdout) = start.stdout {
        command.stdout(Stdio::from(stdout));
    }
    if let Some(stderr) = start.stderr {
        command.stderr(Stdio::from(stderr));
    }
    let mapping = |(parent_fd, child_fd)| FdMapping {
        parent_fd,
        child_fd,
    };
    let mappings = start.fds.into_iter().map(mapping).collect();
    command
        .fd_mappings(mappings)
        .map_err(|_| io::Error::other("two sockets are to have the same descriptor"))?;
    // Dropped without being waited for: whatever ends is reaped in one place.
    Ok(command.spawn()?.id())
}

/// Sends a signal to a process that we have started and not reaped, so that the number is its own.
pub(crate) fn signal(pid: u32, number: i32) {
    if let (Some(pid), Some(signal)) = (raw(pid), Number::from_named_raw(number)) {
        // Fails if it has ended, of which we shall hear.
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal to a process that another one has started.
pub(crate) fn signal_by_fd(pidfd: impl AsFd, number: i32) {
    if let Some(signal) = Number::from_named_raw(number) {
        let _ = pidfd_send_signal(pidfd, signal);
    }
}

/// The process group of a process that lives.
pub(crate) fn group(pid: u32) -> Option<u32> {
    let group = getpgid(raw(pid)).ok().filter(|_| raw(pid).is_some())?;
    Some(group.as_raw_nonzero().get().cast_unsigned())
}

/// Sends a signal to all that is left of its process group.
pub(crate) fn signal_group(pid: u32, number: i32) {
    if let (Some(pid), Some(signal)) = (raw(pid), Number::from_named_raw(number)) {
        let _ = kill_process_group(pid, signal);
    }
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// A duplicate for a process that is to be started.
pub(crate) fn duplicate(fd: impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}
