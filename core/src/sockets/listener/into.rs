//! What lies below a listener, for who accepts by other means.

use std::{io, os::fd::OwnedFd};

use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};

use super::{Listener, Socket};
use crate::{SocketOptions, kernel};

impl Listener {
    /// The tokio listener, for a framework that asks for one.
    ///
    /// It is no longer held back: wait for [`opened`](Self::opened) first, or it takes connections
    /// while the predecessor serves and this program still starts. And nobody takes its
    /// [leftovers](Self::accept_leftover).
    ///
    /// # Errors
    ///
    /// Gives the listener back if it is a Unix listener, or cannot be registered with the runtime.
    #[expect(clippy::result_large_err, reason = "once in the life of a listener")]
    pub fn into_tokio_tcp(mut self) -> Result<TcpListener, Self> {
        if self.begin().is_err() {
            return Err(self);
        }
        match self.socket {
            Socket::Tcp(listener) => Ok(listener),
            _ => Err(self),
        }
    }

    /// The tokio listener of a Unix socket. As [`into_tokio_tcp`](Self::into_tokio_tcp), it is no
    /// longer held back.
    ///
    /// # Errors
    ///
    /// Gives the listener back if it is a TCP listener.
    #[expect(clippy::result_large_err, reason = "once in the life of a listener")]
    pub fn into_tokio_unix(self) -> Result<UnixListener, Self> {
        match self.socket {
            Socket::Unix(listener) => Ok(listener),
            _ => Err(self),
        }
    }

    /// The bare descriptor, out of the runtime: `std::net::TcpListener::from(fd)` and its kind make
    /// a listener of it. As [`into_tokio_tcp`](Self::into_tokio_tcp), it is no longer held back.
    ///
    /// It is nonblocking and must stay so: the flag is shared with every generation.
    ///
    /// # Errors
    ///
    /// If the runtime cannot deregister it.
    pub fn into_fd(mut self) -> io::Result<OwnedFd> {
        self.begin()?;
        match self.socket {
            Socket::Tcp(listener) => Ok(listener.into_std()?.into()),
            Socket::Unix(listener) => Ok(listener.into_std()?.into()),
            Socket::Later(fd) => Ok(fd),
            Socket::Nothing => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Registers a socket that has had to wait for the commit.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if !matches!(self.socket, Socket::Later(_)) {
            return Ok(());
        }
        if let Socket::Later(fd) = std::mem::replace(&mut self.socket, Socket::Nothing) {
            if !kernel::listens(&fd)? {
                SockRef::from(&fd).listen(SocketOptions::new().queue())?;
            }
            self.socket = Socket::Tcp(TcpListener::from_std(fd.into())?);
        }
        Ok(())
    }
}
