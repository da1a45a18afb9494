//! A connection and its holder: it fails at the cut, and says what it does as far as IO can tell.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connection, IoDeadline};
use crate::{Kind, Phase, guard::Holder};

/// What [`Tracked`](super::Tracked) and [`Movable`](super::Movable) have in common.
#[derive(Debug)]
pub(super) struct Held<Io> {
    io: Io,
    connection: Arc<Connection>,
    holder: Holder,
    reads: IoDeadline,
    writes: IoDeadline,
    // Written since the last read, so that a flush is the end of an answer.
    answers: bool,
}

impl<Io> Held<Io> {
    pub(super) fn new(io: Io, connection: Arc<Connection>, holder: Holder) -> Self {
        Self {
            io,
            connection,
            holder,
            reads: IoDeadline::default(),
            writes: IoDeadline::default(),
            answers: false,
        }
    }

    pub(super) fn into_parts(self) -> (Io, Arc<Connection>, Holder) {
        (self.io, self.connection, self.holder)
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(super) fn get_ref(&self) -> &Io {
        &self.io
    }

    pub(super) fn get_mut(&mut self) -> &mut Io {
        &mut self.io
    }

    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    fn is_cut(&self) -> bool {
        self.holder.phase() >= Phase::Cutting
    }

    fn begin_answer(&mut self) {
        self.answers = true;
        self.becomes(Kind::Request);
    }

    // What has left HTTP has no requests and answers.
    fn becomes(&self, kind: Kind) {
        if !self.connection.kind().is_upgraded() {
            self.connection.set_kind(kind);
        }
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

impl<Io: AsyncRead + Unpin> AsyncRead for Held<Io> {
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
                    this.connection.count_received(buf.filled().len() - before);
                    this.answers = false;
                    this.becomes(Kind::Request);
                }
                ready
            }
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Held<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begin_answer();
        let polled = this.poll_out(cx, |io, cx| io.poll_write(cx, buf));
        this.connection.count_sent(&polled);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begin_answer();
        let polled = this.poll_out(cx, |io, cx| io.poll_write_vectored(cx, bufs));
        this.connection.count_sent(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = this.poll_out(cx, |io, cx| io.poll_flush(cx));
        // What was asked has been answered, as far as IO can tell.
        if polled.is_ready() && this.answers {
            this.becomes(Kind::Idle);
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx, |io, cx| io.poll_shutdown(cx))
    }
}
