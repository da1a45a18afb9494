//! The socket below a TLS connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use handover::{Connection, Kind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Tells the connection when its client begins, and can be taken back out of a handshake.
#[derive(Debug)]
pub(crate) struct Socket<Io> {
    pub(crate) io: Io,
    // Until the first byte has come.
    fresh: Option<Arc<Connection>>,
    // A handshake gives its socket back when that fails, and in no other way.
    stopped: Arc<AtomicBool>,
}

impl<Io> Socket<Io> {
    pub(crate) fn new(
        io: Io,
        connection: Option<Arc<Connection>>,
        stopped: Arc<AtomicBool>,
    ) -> Self {
        Self {
            io,
            fresh: connection,
            stopped,
        }
    }

    fn check(&self) -> io::Result<()> {
        match self.stopped.load(Relaxed) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Socket<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if buf.filled().len() > before
            && let Some(connection) = this.fresh.take()
        {
            connection.set_kind(Kind::Handshake);
        }
        polled
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Socket<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
