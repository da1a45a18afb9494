//! One process, named by its pidfd.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
    },
};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// It has ended, and its own parent has taken the status.
    Unknown,
}

impl Exit {
    /// Whether it ended by itself with status 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Status(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "exit status {status}"),
            Exit::Signal(signal) => write!(f, "ended by signal {signal}"),
            Exit::Unknown => f.write_str("ended"),
        }
    }
}

/// A process that may have ended. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Process {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pid: u32,
    /// `None` if it was gone before it could be opened.
    pidfd: Option<OwnedFd>,
    /// Locked while it is asked for, since only one call can be told the status.
    exit: Mutex<Option<Exit>>,
}

impl Process {
    /// Opens the process that has `pid` now.
    ///
    /// # Errors
    ///
    /// If `pid` cannot be one, or the kernel has no pidfd for us. A process that is gone is none.
    pub fn open(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let Some(raw) = raw else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{pid} is no pid"),
            ));
        };
        let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::SRCH) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                pid,
                pidfd,
                exit: Mutex::new(None),
            }),
        })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let sent = match &self.inner.pidfd {
            Some(pidfd) => pidfd_send_signal(pidfd, signal),
            None => Err(Errno::SRCH),
        };
        sent.with_context(|| format!("send {signal:?} to process {}", self.pid()))
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn try_exit(&self) -> Option<Exit> {
        let mut known = self
            .inner
            .exit
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.is_some() {
            return *known;
        }
        let exit = match &self.inner.pidfd {
            None => Exit::Unknown,
            Some(pidfd) => match waitid(
                WaitId::PidFd(pidfd.as_fd()),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            ) {
                Ok(None) => return None,
                Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                    (Some(status), _) => Exit::Status(status),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => Exit::Unknown,
                },
                // Not our child, or not ours to wait for any more: a pidfd is readable once its
                // process has ended.
                Err(_) if is_readable(pidfd, Duration::ZERO) => Exit::Unknown,
                Err(_) => return None,
            },
        };
        *known = Some(exit);
        *known
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.try_exit().is_none()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// If it still runs after `within`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: another call gives the same result.
    pub async fn exit(&self, within: Duration) -> anyhow::Result<Exit> {
        if let Some(exit) = self.try_exit() {
            return Ok(exit);
        }
        if let Some(pidfd) = &self.inner.pidfd {
            let pidfd = pidfd.try_clone()?;
            let (tell, ended) = oneshot::channel();
            // A thread of its own rather than one of the runtime's: it is in nobody's way, and
            // a runtime that ends need not wait for it.
            thread::spawn(move || tell.send(is_readable(&pidfd, within)));
            if !ended.await.unwrap_or(false) {
                bail!("process {} still runs after {within:?}", self.pid());
            }
        }
        Ok(self.try_exit().unwrap_or(Exit::Unknown))
    }
}

/// Whether the process of `pidfd` has ended, or ends within `within`.
fn is_readable(pidfd: &OwnedFd, within: Duration) -> bool {
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], left.as_ref()) {
            Ok(count) => return count > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
