//! A connection that a drain waits for, under a serve loop that knows nothing of drains.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connection, IoDeadline};
use crate::{Graceful, Kind, Phase, Stays, guard::Holder};

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
    reads: IoDeadline,
    writes: IoDeadline,
    // Written since the last read, so that a flush is the end of an answer.
    answers: bool,
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
                reads: IoDeadline::default(),
                writes: IoDeadline::default(),
                answers: false,
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

    fn begin_answer(&mut self) {
        self.answers = true;
        self.connection.set_kind(Kind::Request);
    }

    // Polls a write, which fails after the cut, also while it waits for the peer to read.
    fn poll_out<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Io>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        Io: Unpin,
    {
        if self.is_cut()
            && let Poll::Ready(error) = self.writes.poll(&self.holder, cx)
        {
            return Poll::Ready(Err(error));
        }
        match poll(Pin::new(&mut self.io), cx) {
            Poll::Pending => self.writes.poll(&self.holder, cx).map(Err),
            ready => ready,
        }
    }
}

impl<Io> Drop for Tracked<Io> {
    fn drop(&mut self) {
        // While it was served by a loop that does not let go of it, an upgrade had begun.
        if self.holder.phase() > Phase::Running && self.holder.count_stayed(Stays::Framework) {
            let (peer, why) = (self.connection.peer(), Stays::Framework);
            tracing::debug!(%peer, %why, "a connection was not moved");
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Tracked<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_cut()
            && let Poll::Ready(error) = this.reads.poll(&this.holder, cx)
        {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Pending => this.reads.poll(&this.holder, cx).map(Err),
            ready => {
                if buf.filled().len() > before {
                    this.answers = false;
                    this.connection.set_kind(Kind::Request);
                }
                ready
            }
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Tracked<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begin_answer();
        this.poll_out(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begin_answer();
        this.poll_out(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = this.poll_out(cx, |io, cx| io.poll_flush(cx));
        // What was asked has been answered, as far as IO can tell.
        if polled.is_ready() && this.answers {
            this.connection.set_kind(Kind::Idle);
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx, |io, cx| io.poll_shutdown(cx))
    }
}
