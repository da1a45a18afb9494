//! A connection of a [`Listener`](super::Listener): TCP or Unix.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::Address;

/// A connection that a [`Listener`](super::Listener) accepted.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::{Generation, Stream};
/// use tokio::io::AsyncWriteExt;
///
/// let generation = Generation::start()?;
/// let mut listener = generation.listen("127.0.0.1:0").await?;
/// generation.ready().await?;
/// # let address = listener.local_addr()?.to_string();
/// # let _client = tokio::net::TcpStream::connect(address).await?;
/// let (mut stream, peer) = listener.accept().await?;
/// assert_eq!(stream.local_addr()?, listener.local_addr()?);
/// match &stream {
///     Stream::Tcp(tcp) => assert!(tcp.nodelay()?),
///     _ => println!("over a Unix socket, from {peer}"),
/// }
/// stream.write_all(b"hello").await?;
/// // For a library that wants the descriptor.
/// let stream = std::net::TcpStream::from(stream.into_fd()?);
/// # drop(stream);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// Over TCP, with `TCP_NODELAY` set.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

macro_rules! either {
    ($this:expr, $io:ident => $call:expr) => {
        match $this {
            Stream::Tcp($io) => $call,
            Stream::Unix($io) => $call,
        }
    };
}

impl Stream {
    /// Puts a connection from this peer into the runtime. It is nonblocking already.
    pub(crate) fn from_fd(fd: std::os::fd::OwnedFd, peer: &Address) -> io::Result<Self> {
        Ok(match peer {
            Address::Tcp(_) => Self::Tcp(TcpStream::from_std(fd.into())?),
            Address::Unix(_) => Self::Unix(UnixStream::from_std(fd.into())?),
        })
    }

    /// Where it was accepted.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` reports.
    pub fn local_addr(&self) -> io::Result<Address> {
        either!(self, io => io.local_addr().map(Address::from))
    }

    /// Ready when something has come, without reading it.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is an event too: the read that follows tells it.
        either!(self, io => io.poll_read_ready(cx).map(|_| ()))
    }

    /// Takes the connection out of the runtime, as the bare descriptor.
    ///
    /// It stays open and nonblocking. What tokio has not read is still in the kernel.
    ///
    /// # Errors
    ///
    /// If the runtime cannot deregister it.
    pub fn into_fd(self) -> io::Result<std::os::fd::OwnedFd> {
        either!(self, io => Ok(io.into_std()?.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, io => io.as_fd())
    }
}
