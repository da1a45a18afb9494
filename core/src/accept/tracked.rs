//! A connection that a drain waits for, under a serve loop that knows nothing of drains.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Connection;
use crate::{Graceful, Kind, Phase, guard::Holder, wait::Reached};

/// A connection that holds a drain open until it is dropped, and whose IO fails at the cut.
///
/// It works below any server, TLS and WebSockets included, because it is only IO: whatever waits
/// for this connection at the cut is woken and gets an error. What it cannot do is end a handler,
/// or a body that never ends, while the server does no IO: put [`GracefulLayer`](crate::GracefulLayer)
/// above it for that.
#[derive(Debug)]
pub struct Tracked<Io> {
    io: Io,
    connection: Arc<Connection>,
    holder: Holder,
    // The two halves of a connection may be used by two tasks; a holder wakes one, the reader.
    // This one wakes a writer that has to wait.
    write_cut: Option<Reached>,
    // Something was written since the last read: then a server that waits for input is idle.
    answered: bool,
}

impl<Io> Tracked<Io> {
    /// Tracks a connection; gives it back if the drain is over.
    ///
    /// # Errors
    ///
    /// The connection, once nothing can hold the drain open any more.
    pub fn new(io: Io, connection: Arc<Connection>, graceful: &Graceful) -> Result<Self, Io> {
        match connection.hold(graceful) {
            Some(holder) => Ok(Self {
                io,
                connection,
                holder,
                write_cut: None,
                answered: false,
            }),
            None => Err(io),
        }
    }

    /// What is known of the connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The connection below.
    pub fn get_ref(&self) -> &Io {
        &self.io
    }

    /// The connection below.
    pub fn get_mut(&mut self) -> &mut Io {
        &mut self.io
    }

    fn is_cut(&self) -> bool {
        self.holder.phase() >= Phase::Cutting
    }

    fn poll_read_cut(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while let Poll::Ready(phase) = self.holder.poll_phase(cx) {
            if phase >= Phase::Cutting {
                return Poll::Ready(cut());
            }
        }
        Poll::Pending
    }

    // Polls a write, which fails at the cut, also while it waits for the peer to read.
    fn poll_out<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Io>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        Io: Unpin,
    {
        if self.is_cut() {
            return Poll::Ready(Err(cut()));
        }
        let polled = poll(Pin::new(&mut self.io), cx);
        if polled.is_pending() {
            let holder = &self.holder;
            let cutting = self.write_cut.get_or_insert_with(|| holder.cutting());
            if Pin::new(cutting).poll(cx).is_ready() {
                return Poll::Ready(Err(cut()));
            }
        }
        polled
    }
}

/// What IO ends with once the drain's deadline is over.
fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "connection cut at the drain's deadline",
    )
}

impl<Io: AsyncRead + Unpin> AsyncRead for Tracked<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_cut() {
            return Poll::Ready(Err(cut()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if polled.is_ready() {
            if buf.filled().len() > before {
                this.answered = false;
                this.connection.set_kind(Kind::Request);
            }
            return polled;
        }
        if this.answered {
            this.connection.set_kind(Kind::Idle);
        }
        this.poll_read_cut(cx).map(Err)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Tracked<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answered = true;
        this.poll_out(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answered = true;
        this.poll_out(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx, |io, cx| io.poll_shutdown(cx))
    }
}
