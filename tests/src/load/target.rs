//! Where the load goes.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

use crate::tls::Client;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket.
    Unix(PathBuf),
    /// A TCP address that this client speaks TLS with.
    Tls(SocketAddr, Client),
}

impl Target {
    /// Reads `127.0.0.1:3000`, `[::1]:3000` or `unix:/path`.
    ///
    /// # Errors
    ///
    /// If `text` is neither.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.parse().with_context(|| {
            format!("{text:?} is no address; write it as 127.0.0.1:3000 or unix:/path")
        })?;
        Ok(Self::Tcp(address))
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// Those of `connect(2)`, as they are; and those of the handshake, where there is one.
    pub async fn connect(&self) -> io::Result<Io> {
        match self {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Pieces of a request are to arrive when they are sent.
                stream.set_nodelay(true)?;
                Ok(Io::Tcp(stream))
            }
            Target::Unix(path) => UnixStream::connect(path).await.map(Io::Unix),
            Target::Tls(address, client) => {
                let stream = client.connect(*address).await?;
                Ok(Io::Tls(Box::new(stream)))
            }
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Tls(address, _) => write!(f, "https://{address}"),
        }
    }
}

/// An open connection to a [`Target`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Io {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix stream socket.
    Unix(UnixStream),
    /// Over TLS, over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// Waits until there is something to read, which over TLS may be nothing for a reader.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Io::Tcp(stream) => stream.readable().await,
            Io::Unix(stream) => stream.readable().await,
            Io::Tls(stream) => stream.get_ref().0.readable().await,
        }
    }
}

impl AsFd for Io {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Io::Tcp(stream) => stream.as_fd(),
            Io::Unix(stream) => stream.as_fd(),
            Io::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
