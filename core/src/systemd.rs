//! What a service manager is told: that the service is ready, which process is the main one, that
//! it reloads, that it stops.
//!
//! It works with `Type=notify` and `Type=notify-reload` (systemd 253), with `NotifyAccess=main`, the
//! default: each message is sent by the process that is the main one at that moment.
//!
//! | when | who | message |
//! |---|---|---|
//! | a first generation is ready | it | `READY=1` |
//! | an upgrade begins | the predecessor | `RELOADING=1`, `MONOTONIC_USEC` |
//! | it failed | the predecessor | `READY=1` |
//! | the successor serves | the predecessor | `MAINPID` of the successor, `READY=1`, then a barrier |
//! | the predecessor has died | the heir | its own `MAINPID`, `READY=1` (heard with `NotifyAccess=all`) |
//! | the successor has died | the predecessor | its own `MAINPID`, `READY=1` |
//! | the service is to stop | the last generation | `STOPPING=1` |
//!
//! A generation that has handed over never says that it stops: that would be taken for the service.
//! Without `NOTIFY_SOCKET` in the environment nothing of this happens.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::{PipeFlags, pipe_with},
};
use sd_notify::NotifyState;

/// For how long a process that is no longer the main one waits until the manager knows. If it
/// ended before, the manager would take that for the end of the service.
const BARRIER: Duration = Duration::from_secs(5);

/// Returns true if a manager wants to be told.
pub(crate) fn is_listening() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// A first generation serves, or an upgrade has failed and this process serves on.
pub(crate) fn serves(generation: u64) {
    let status = status(generation);
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// An upgrade begins.
pub(crate) fn reloading() {
    if !is_listening() {
        return;
    }
    // A reload is known by its time, which the manager compares with that of its signal.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(err) => tracing::warn!(%err, "the service manager is not told of the reload"),
    }
}

/// This process is the main one now: the other has died.
pub(crate) fn alone(generation: u64) {
    let status = status(generation);
    tell(&[
        NotifyState::MainPid(std::process::id()),
        NotifyState::Ready,
        NotifyState::Status(&status),
    ]);
}

/// The service is to stop.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// A successor serves, and is the main process. Blocks until the manager has heard, or for a while.
pub(crate) fn handed_over(successor: u32, generation: u64) {
    let status = status(generation);
    tell(&[
        NotifyState::MainPid(successor),
        NotifyState::Ready,
        NotifyState::Status(&status),
    ]);
    if let Err(err) = barrier() {
        tracing::warn!(%err, "the service manager may not know yet which process is the main one");
    }
}

fn status(generation: u64) -> String {
    format!("generation {generation} serves")
}

fn tell(what: &[NotifyState<'_>]) {
    // Without a manager this does nothing.
    if let Err(err) = sd_notify::notify(what) {
        tracing::warn!(%err, "the service manager was not told");
    }
}

/// Waits until all that was sent has been handled: the manager then closes what comes with it.
fn barrier() -> io::Result<()> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[write.as_fd()])?;
    drop(write);
    let deadline = Instant::now() + BARRIER;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&read, PollFlags::empty())];
        match poll(&mut fds, Some(&left)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            // Its end has been closed.
            Ok(_) => return Ok(()),
            Err(err) => return Err(err.into()),
        }
    }
}
