//! The manager's socket: one datagram is one message, and the kernel says who sent it.
//!
//! Written here because the crates for it wait without a limit for a manager that does not read,
//! and it is a thread of the runtime that would wait.

use std::{
    ffi::OsStr,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SocketAddrUnix},
};
use socket2::{Domain, Socket, Type};

use crate::kernel;

/// How long a message may wait for a manager that is busy. Messages come from the runtime's own
/// threads, so this is also how long a manager that hangs may hold one up.
const PATIENCE: Duration = Duration::from_millis(500);
/// For how long a process that is no longer the main one waits until the manager knows. If it
/// ended before, the manager would take that for the end of the service.
pub(super) const BARRIER: Duration = Duration::from_secs(5);

/// The service manager of this process, as `sd_notify` knows it.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::os::unix::net::UnixDatagram;
///
/// use handover::supervise::Notifier;
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("notify");
/// let manager = UnixDatagram::bind(&path)?;
/// Notifier::new(path.as_os_str())?.send("READY=1\nSTATUS=serving", &[])?;
/// let mut message = [0; 64];
/// let length = manager.recv(&mut message)?;
/// assert_eq!(&message[..length], b"READY=1\nSTATUS=serving");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Notifier {
    address: SocketAddrUnix,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`: a path, or with `@` before it a name in the abstract namespace.
    ///
    /// # Errors
    ///
    /// In words, if it is neither.
    pub fn new(value: &OsStr) -> Result<Self, String> {
        let bytes = value.as_bytes();
        let address = match bytes {
            [b'/', ..] => SocketAddrUnix::new(bytes),
            #[cfg(target_os = "linux")]
            [b'@', name @ ..] if !name.is_empty() => SocketAddrUnix::new_abstract_name(name),
            _ => return Err("it is neither a path nor @name".to_owned()),
        };
        let address = address.map_err(|err| err.to_string())?;
        Ok(Self { address })
    }

    /// Sends a message, which is assignments, one in a line, and descriptors with it. A manager
    /// that does not read is waited for at most half a second.
    ///
    /// # Errors
    ///
    /// If it was not sent.
    pub fn send(&self, message: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        rustix::net::connect(&socket, &self.address)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            let message = "more than one descriptor in a message";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let iov = [IoSlice::new(message.as_bytes())];
        rustix::net::sendmsg(&socket, &iov, &mut control, kernel::NO_SIGNAL)?;
        Ok(())
    }

    /// Waits until all that was sent before has been handled: the manager closes what comes with
    /// this message when it gets to it.
    pub(super) fn barrier(&self) -> io::Result<()> {
        let (read, write) = io::pipe()?;
        // Alone in its message, or it is ignored.
        self.send("BARRIER=1", &[write.as_fd()])?;
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
}

/// The time as a manager compares it, in microseconds.
pub(super) fn monotonic_usec() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_reached_is_an_address() {
        for value in ["/run/systemd/notify", "@/org/freedesktop/notify"] {
            assert!(Notifier::new(OsStr::new(value)).is_ok(), "{value}");
        }
        for value in ["", "@", "notify", "vsock:2:1234", &"/long".repeat(50)] {
            assert!(Notifier::new(OsStr::new(value)).is_err(), "{value}");
        }
    }

    #[test]
    fn nobody_there_is_an_error_and_not_a_hang() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let notifier = Notifier::new(path.as_os_str()).unwrap();
        let err = notifier.send("READY=1\n", &[]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::NotFound);
        // A manager that does not read: its queue is full at some time, and then it takes its time.
        let _manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let full = (0..100_000).find_map(|_| notifier.send("WATCHDOG=1\n", &[]).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
