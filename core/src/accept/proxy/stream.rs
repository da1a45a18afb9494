//! A connection whose first bytes have been looked at, and how it moves.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use crate::accept::{Departures, Giving, Mover, Parcel, Proxied, replay::Replay};

/// A connection of [`ProxyProtocol`](super::ProxyProtocol): after its header, if it had one.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use std::{future::poll_fn, io};
///
/// use handover::{Accept, Graceful, accept::ProxyProtocol};
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut balancer = TcpStream::connect(listener.local_addr()?).await?;
/// let mut listener = ProxyProtocol::new(listener, &Graceful::new());
/// balancer.write_all(b"PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\nhello").await?;
///
/// let (mut io, peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
/// assert_eq!(peer.to_string(), "203.0.113.7:51234");
/// let said = io.proxied().expect("there was a header");
/// assert_eq!(said.balancer(), &balancer.local_addr()?.into());
///
/// // It reads on after the header.
/// io.get_mut().set_nodelay(true)?;
/// assert!(io.get_ref().nodelay()?);
/// let mut hello = [0; 5];
/// io.read_exact(&mut hello).await?;
/// assert_eq!(&hello, b"hello");
///
/// // As the standard library's, say.
/// let (io, unread) = io.try_map(TcpStream::into_std)?.into_parts();
/// assert!(unread.is_empty());
/// # drop(io);
/// # io::Result::Ok(())
/// # }
/// ```
pub struct ProxyStream<Io> {
    io: Io,
    // Read while a header was looked for, and not of one.
    read: Replay,
    said: Option<Arc<Proxied>>,
}

impl<Io> ProxyStream<Io> {
    /// A connection of which this has been read already.
    pub(super) fn new(io: Io, read: Vec<u8>, said: Option<Arc<Proxied>>) -> Self {
        Self {
            io,
            read: Replay::new(read),
            said,
        }
    }

    /// What the header said; `None` without one, and for a balancer that spoke for itself.
    pub fn proxied(&self) -> Option<&Arc<Proxied>> {
        self.said.as_ref()
    }

    /// The connection below. What [`into_parts`](Self::into_parts) returns beside it comes before
    /// what can be read from it.
    pub fn get_ref(&self) -> &Io {
        &self.io
    }

    /// The connection below, for who reads nothing from it.
    pub fn get_mut(&mut self) -> &mut Io {
        &mut self.io
    }

    /// The connection below, and what was read from it and not used.
    pub fn into_parts(self) -> (Io, Vec<u8>) {
        (self.io, self.read.into_rest())
    }

    /// The same over another connection, which `into` makes of the one below.
    ///
    /// # Errors
    ///
    /// That of `into`.
    pub fn try_map<T>(self, into: impl FnOnce(Io) -> io::Result<T>) -> io::Result<ProxyStream<T>> {
        Ok(ProxyStream {
            io: into(self.io)?,
            read: self.read,
            said: self.said,
        })
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for ProxyStream<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.read.read(buf) {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut this.io).poll_read(cx, buf),
        }
    }
}

forward_write!(ProxyStream, io);

#[cfg(unix)]
impl<Io: std::os::fd::AsFd> std::os::fd::AsFd for ProxyStream<Io> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<Io> fmt::Debug for ProxyStream<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyStream")
            .field("proxied", &self.said)
            .finish_non_exhaustive()
    }
}

/// Moves the connection below. The other end has read the header, and is told what it said.
pub(super) struct Below<Io>(pub(super) Arc<dyn Mover<Io>>);

impl<Io: Send + 'static> Mover<ProxyStream<Io>> for Below<Io> {
    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    fn departures(&self) -> Departures {
        self.0.departures()
    }

    fn give(&self, mut parcel: Parcel<ProxyStream<Io>>) -> Giving<ProxyStream<Io>> {
        // Behind what has been read through it.
        let mut unread = std::mem::take(&mut parcel.unread);
        let mut parcel = parcel.map(|io| {
            let (io, rest) = io.into_parts();
            unread.extend_from_slice(&rest);
            io
        });
        parcel.unread = unread;
        let given = self.0.give(parcel);
        Box::pin(async move {
            let again = |io| ProxyStream::new(io, Vec::new(), None);
            given.await.map_err(|back| back.map(again))
        })
    }
}
