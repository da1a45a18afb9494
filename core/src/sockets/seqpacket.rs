//! Unix seqpacket sockets: connections that keep their messages apart.

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSliceMut},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, ReturnFlags, recvmsg, send};
use socket2::SockRef;
use tokio::{io::Interest, net::UnixDatagram};

use super::{Difference, entrance::Entrance, gate::Gate, record, registry::Obtained};
use crate::{Address, kernel};

/// A Unix seqpacket listener that this generation opened or inherited.
///
/// As a [`Listener`](crate::Listener) it accepts only while its generation serves.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::Generation;
///
/// let generation = Generation::start()?;
/// let mut listener = generation.listen_seqpacket("unix:/run/control.sock").await?;
/// generation.ready().await?;
/// let (connection, _) = listener.accept().await?;
/// let mut message = vec![0; 4096];
/// let length = connection.recv(&mut message).await?;
/// connection.send(&message[..length]).await?;
/// # Ok(())
/// # }
/// ```
pub struct SeqpacketListener {
    name: String,
    // Only its readiness is used, which is the same for every kind of socket.
    socket: UnixDatagram,
    entrance: Entrance,
    differences: Vec<Difference>,
}

impl SeqpacketListener {
    pub(crate) fn new(obtained: Obtained, gate: &Gate) -> io::Result<Self> {
        Ok(Self {
            name: obtained.name,
            socket: UnixDatagram::from_std(obtained.fd.into())?,
            entrance: Entrance::new(obtained.held, gate),
            differences: obtained.differences,
        })
    }

    /// The name under which the next generation finds this socket.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("app.sock");
    /// let generation = handover::Generation::start()?;
    /// let listener = generation.listen_seqpacket(format!("control=unix:{}", path.display())).await?;
    /// assert_eq!(listener.name(), "control");
    /// assert_eq!(listener.local_addr()?.as_path(), Some(path.as_path()));
    /// assert!(listener.differences().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` reports.
    pub fn local_addr(&self) -> io::Result<Address> {
        record::address(&self.socket)
    }

    /// What of [`SocketOptions`](crate::SocketOptions) is otherwise than it was asked for. It has
    /// been logged as well.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// Takes the next connection, once this generation serves.
    ///
    /// # Errors
    ///
    /// What `accept(2)` reports; an error is about one client, or about this host.
    ///
    /// # Cancel safety
    ///
    /// A connection is either returned or still in the kernel's queue.
    pub async fn accept(&mut self) -> io::Result<(Seqpacket, Address)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Takes what nobody else will, while this generation drains after an upgrade: `None` once there
    /// is no more. As [`Listener::accept_leftover`](crate::Listener::accept_leftover).
    ///
    /// # Errors
    ///
    /// As for [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// A connection is either returned or still in the kernel's queue.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn serve(_: handover::Seqpacket) {}
    /// # async fn example(
    /// #     mut listener: handover::SeqpacketListener,
    /// #     graceful: handover::Graceful,
    /// # ) -> std::io::Result<()> {
    /// let _guard = graceful.guard();
    /// loop {
    ///     tokio::select! {
    ///         accepted = listener.accept() => tokio::spawn(serve(accepted?.0)),
    ///         () = graceful.draining() => break,
    ///     };
    /// }
    /// while let Some(accepted) = listener.accept_leftover().await {
    ///     tokio::spawn(serve(accepted?.0));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn accept_leftover(&mut self) -> Option<io::Result<(Seqpacket, Address)>> {
        poll_fn(|cx| self.poll_leftover(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Seqpacket, Address)>> {
        ready!(self.entrance.poll_open(cx));
        poll_socket(&self.socket, &self.entrance, cx)
    }

    fn poll_leftover(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<(Seqpacket, Address)>>> {
        let socket = &self.socket;
        let accept = |entrance: &Entrance, cx: &mut Context<'_>| poll_socket(socket, entrance, cx);
        self.entrance.poll_leftover(cx, accept)
    }
}

fn poll_socket(
    socket: &UnixDatagram,
    entrance: &Entrance,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(Seqpacket, Address)>> {
    if let Some(accepted) = entrance.poll_deaf() {
        let (fd, peer) = ready!(accepted)?;
        return Poll::Ready(Seqpacket::new(fd).map(|connection| (connection, peer)));
    }
    loop {
        ready!(socket.poll_recv_ready(cx))?;
        let fd = match socket.try_io(Interest::READABLE, || kernel::accept(socket)) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
            accepted => accepted?,
        };
        let peer = record::of(SockRef::from(&fd).peer_addr()?);
        return Poll::Ready(Ok((Seqpacket::new(fd)?, peer)));
    }
}

impl AsFd for SeqpacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for SeqpacketListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeqpacketListener")
            .field("name", &self.name)
            .field("address", &self.local_addr().ok())
            .finish_non_exhaustive()
    }
}

/// A connection of a [`SeqpacketListener`]. Each message arrives whole and by itself, in order.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::Seqpacket;
/// # let flags = rustix::net::SocketFlags::CLOEXEC;
/// # let (one, other) = rustix::net::socketpair(
/// #     rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET, flags, None)?;
///
/// // Two ends of one connection, that somebody else has made.
/// let (one, other) = (Seqpacket::from_fd(one)?, Seqpacket::from_fd(other)?);
/// one.send(b"whole").await?;
/// one.send(b"messages").await?;
/// let mut message = [0; 64];
/// assert_eq!(other.recv(&mut message).await?, 5);
/// assert_eq!(other.recv(&mut message).await?, 8);
/// let fd = one.into_fd()?;
/// # drop(fd);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
//
// Of the datagram socket only its readiness is used.
pub struct Seqpacket(UnixDatagram);

impl Seqpacket {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(UnixDatagram::from_std(fd.into())?))
    }

    /// Puts a connected seqpacket socket into the runtime, and makes it nonblocking.
    ///
    /// # Errors
    ///
    /// If it cannot be registered with the runtime.
    ///
    /// # Panics
    ///
    /// If there is no tokio runtime with IO.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        super::kept::set_nonblocking(fd.as_fd())?;
        Self::new(fd)
    }

    /// Receives the next message, and returns its length: 0 at the end.
    ///
    /// # Errors
    ///
    /// What `recvmsg(2)` reports; `InvalidData` if the message does not fit, of which what does is
    /// in `message` and the rest is lost.
    ///
    /// # Cancel safety
    ///
    /// A message is either returned or still there.
    pub async fn recv(&self, message: &mut [u8]) -> io::Result<usize> {
        let receive = || {
            let mut parts = [IoSliceMut::new(message)];
            let mut control = Default::default();
            let got = recvmsg(&self.0, &mut parts, &mut control, RecvFlags::empty())?;
            if got.flags.contains(ReturnFlags::TRUNC) {
                let what = "a message is longer than the buffer for it";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            Ok(got.bytes)
        };
        self.0.async_io(Interest::READABLE, receive).await
    }

    /// Sends one message, whole.
    ///
    /// # Errors
    ///
    /// What `send(2)` reports: `EMSGSIZE` if it is too long, `EPIPE` if the peer has gone.
    ///
    /// # Cancel safety
    ///
    /// The message has been sent whole or not at all.
    pub async fn send(&self, message: &[u8]) -> io::Result<()> {
        // That the peer has gone is an answer and must not end this process.
        let send = || Ok(send(&self.0, message, kernel::NO_SIGNAL)?);
        let sent = self.0.async_io(Interest::WRITABLE, send).await?;
        debug_assert_eq!(sent, message.len());
        Ok(())
    }

    /// Takes the connection out of the runtime, as the bare descriptor. It stays nonblocking.
    ///
    /// # Errors
    ///
    /// If the runtime cannot deregister it.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(self.0.into_std()?.into())
    }
}

impl AsFd for Seqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
