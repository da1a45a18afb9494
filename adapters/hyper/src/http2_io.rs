//! The IO of an HTTP/2 connection: it can answer a PING in place of the peer, and be taken back.
//!
//! h2 sends its final GOAWAY when the peer has answered the PING that goes with the first one, and
//! has no other way to. A peer that never answers is answered for: its next bytes are preceded by
//! the answer that it owes, at a place where a frame may begin. What follows is as if it had come
//! from the peer: the last stream that was looked at is named, and the connection ends with it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{goaway_gate::GoawayGate, http2_frames::ANSWER, io::ConnIo};

/// What the driver keeps of an [`Http2Io`].
pub(crate) struct Hold<Io> {
    shared: Arc<Shared<Io>>,
}

struct Shared<Io> {
    due: AtomicBool,
    // By the peer, or for it.
    answered: AtomicBool,
    answered_for: AtomicBool,
    // Once h2 is done with it.
    back: Mutex<Option<Io>>,
}

impl<Io> Hold<Io> {
    /// The PING is answered for the peer, if it has not done so: poll the connection after this.
    pub(crate) fn answer_the_ping(&self) {
        self.shared.due.store(true, Release);
    }

    /// The PING has its answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.shared.answered.load(Acquire)
    }

    /// The peer has said nothing.
    pub(crate) fn is_answered_for(&self) -> bool {
        self.shared.answered_for.load(Acquire)
    }

    /// The connection, once h2 has been dropped.
    pub(crate) fn take(&self) -> Option<Io> {
        let mut back = self
            .shared
            .back
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        back.take()
    }
}

pub(crate) struct Http2Io<Io> {
    // `None` only while it is dropped.
    io: Option<GoawayGate<ConnIo<Io>>>,
    shared: Arc<Shared<Io>>,
    // Of the answer, what h2 had no room for yet.
    answer: &'static [u8],
}

impl<Io> Http2Io<Io> {
    pub(crate) fn new(io: ConnIo<Io>) -> (Self, Hold<Io>) {
        let shared = Arc::new(Shared {
            due: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            answered_for: AtomicBool::new(false),
            back: Mutex::new(None),
        });
        let hold = Hold {
            shared: shared.clone(),
        };
        let io = Self {
            io: Some(GoawayGate::new(io)),
            shared,
            answer: &[],
        };
        (io, hold)
    }

    fn gate(&mut self) -> io::Result<&mut GoawayGate<ConnIo<Io>>> {
        self.io
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn io(&mut self) -> io::Result<Pin<&mut GoawayGate<ConnIo<Io>>>>
    where
        Io: Unpin,
    {
        self.gate().map(Pin::new)
    }
}

impl<Io> Drop for Http2Io<Io> {
    fn drop(&mut self) {
        if let Some(io) = self.io.take() {
            let (io, _unread) = io.into_inner().into_parts();
            let mut back = self
                .shared
                .back
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *back = Some(io);
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Http2Io<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.shared.due.load(Acquire) && !self.is_answered() {
            if !self.gate()?.is_between() {
                return self.poll_rest_of_frame(cx, buf);
            }
            self.shared.answered.store(true, Release);
            self.shared.answered_for.store(true, Release);
            self.gate()?.answer();
            self.answer = &ANSWER;
        }
        if !self.answer.is_empty() {
            let (now, later) = self.answer.split_at(self.answer.len().min(buf.remaining()));
            buf.put_slice(now);
            self.answer = later;
            return Poll::Ready(Ok(()));
        }
        self.poll_gate(cx, buf)
    }
}

impl<Io: AsyncRead + Unpin> Http2Io<Io> {
    fn is_answered(&self) -> bool {
        self.shared.answered.load(Acquire)
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = self.io()?.poll_read(cx, buf);
        if self.gate()?.is_answered() {
            self.shared.answered.store(true, Release);
        }
        polled
    }

    /// Reads no further than to where the answer can be put in. Of a peer that sends without end no
    /// read need ever stop between two frames by itself.
    fn poll_rest_of_frame(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut scratch = [0; 1024];
        let rest = self.gate()?.rest_of_frame();
        let most = rest.min(scratch.len()).min(buf.remaining());
        let mut read = ReadBuf::new(&mut scratch[..most]);
        ready!(self.poll_gate(cx, &mut read))?;
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Http2Io<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_shutdown(cx)
    }
}
