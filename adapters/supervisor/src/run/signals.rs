//! The signals that reach us, as a descriptor.
//!
//! They are blocked, from the start of `run` to the end of the process. So none is lost or acted on
//! by default while this process replaces its own program, and as process 1 of a container they
//! come at all, for the kernel drops those of process 1 that are neither blocked nor handled.

use std::{io, os::fd::AsFd};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use tokio::net::unix::pipe::Receiver;

/// Those that mean something to us or to the program.
const ALL: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGCHLD,
];

/// How much the kernel writes for each: `struct signalfd_siginfo`, which begins with the number.
const RECORD: usize = 128;

/// What comes. It is read as a pipe is.
#[derive(Debug)]
pub(crate) struct Signals(Receiver);

/// Blocks them in this thread and all that it starts.
pub(crate) fn block() -> io::Result<()> {
    Ok(set().thread_block()?)
}

fn set() -> SigSet {
    ALL.into_iter().collect()
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set(), flags)?;
        let fd = fd.as_fd().try_clone_to_owned()?;
        Ok(Self(Receiver::from_owned_fd_unchecked(fd)?))
    }

    /// The next one. Cancel safe.
    pub(crate) async fn next(&self) -> io::Result<Signal> {
        loop {
            self.0.readable().await?;
            let mut record = [0; RECORD];
            match self.0.try_read(&mut record) {
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
                Err(err) => return Err(err),
            }
            let [a, b, c, d, ..] = record;
            return Ok(Signal::try_from(i32::from_ne_bytes([a, b, c, d]))?);
        }
    }
}
