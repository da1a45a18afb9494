//! What Linux has and other Unix systems lack or spell otherwise.
//!
//! Elsewhere all of it compiles, and a service drains; what cannot be done there, above all an
//! upgrade, for want of sequenced packets over Unix sockets, fails with
//! [`Unsupported`](io::ErrorKind::Unsupported).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags};
use socket2::{Domain, SockRef, Socket, Type};

/// For sending: that the other end has gone is an answer and must not end this process. Elsewhere
/// that is left to std, which has the signal ignored.
#[cfg(target_os = "linux")]
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(target_os = "linux"))]
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::empty();

/// For receiving: descriptors are close-on-exec from the first moment.
#[cfg(target_os = "linux")]
pub(crate) const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
pub(crate) const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// A pair of sockets that keep messages apart and tell of each other's end. Close-on-exec and
/// nonblocking.
pub(crate) fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = match Socket::pair(Domain::UNIX, Type::SEQPACKET, None) {
        Ok(pair) => pair,
        Err(err) if cfg!(target_os = "linux") => return Err(err),
        Err(err) => {
            let message = format!("this system has no sequenced packets over Unix sockets: {err}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
    };
    one.set_nonblocking(true)?;
    other.set_nonblocking(true)?;
    Ok((one.into(), other.into()))
}

/// Accepts a connection. It is close-on-exec and nonblocking.
pub(crate) fn accept(fd: impl AsFd) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        use rustix::net::{SocketFlags, accept_with};
        Ok(accept_with(
            fd,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        )?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let (socket, _) = SockRef::from(&fd).accept()?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }
}

/// The family of a socket's addresses.
pub(crate) fn domain(fd: impl AsFd) -> rustix::io::Result<AddressFamily> {
    Ok(rustix::net::getsockname(fd)?.address_family())
}

/// Whether a socket listens.
pub(crate) fn listens(fd: impl AsFd) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    return SockRef::from(&fd).is_listener();
    // It cannot be asked everywhere; what does not listen fails when it is to accept.
    #[cfg(not(target_os = "linux"))]
    return SockRef::from(&fd).r#type().map(|kind| kind == Type::STREAM);
}

/// The process at the other end of a Unix socket, when that was made.
pub(crate) fn peer_pid(fd: BorrowedFd<'_>) -> io::Result<u32> {
    #[cfg(target_os = "linux")]
    {
        let peer = rustix::net::sockopt::socket_peercred(fd)?.pid;
        Ok(peer.as_raw_nonzero().get().cast_unsigned())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = fd;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Whether a socket is bound to a network interface that does not exist.
pub(crate) fn is_nowhere(fd: impl AsFd) -> bool {
    #[cfg(target_os = "linux")]
    {
        let device = SockRef::from(&fd).device();
        device.is_err_and(|err| {
            rustix::io::Errno::from_io_error(&err) == Some(rustix::io::Errno::NODEV)
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = fd;
        false
    }
}

/// A descriptor that becomes readable when a process has ended; `None` if it has been reaped, or
/// the kernel cannot tell.
pub(crate) fn process(pid: u32) -> Option<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        pidfd_open(pid, PidfdFlags::empty()).ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}
