//! The IO below hyper: replays what was read before, and tells the link what passes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use handover::{Holder, Kind, Stays, accept::IoDeadline};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::link::Link;

#[derive(Debug)]
pub(crate) struct ConnIo<Io> {
    io: Io,
    // Read already, and to be read again first.
    replay: Bytes,
    link: Arc<Link>,
    // Once upgraded there is no driver any more, and the IO itself sees to its end.
    upgraded: Option<Upgraded>,
}

impl<Io> ConnIo<Io> {
    pub(crate) fn new(io: Io, replay: Bytes, link: Arc<Link>) -> Self {
        Self {
            io,
            replay,
            link,
            upgraded: None,
        }
    }

    /// The connection, and what of the replay nobody has read.
    pub(crate) fn into_parts(self) -> (Io, Bytes) {
        (self.io, self.replay)
    }

    // A connection that the application has taken over fails after the cut.
    fn upgraded(&mut self) -> Option<&mut Upgraded> {
        if self.upgraded.is_none() && self.link.connection.kind() == Kind::Upgraded {
            let link = &self.link;
            self.upgraded = link.take_upgraded().map(|holder| Upgraded {
                holder,
                link: link.clone(),
                reads: IoDeadline::default(),
                writes: IoDeadline::default(),
            });
        }
        self.upgraded.as_mut()
    }
}

#[derive(Debug)]
struct Upgraded {
    holder: Holder,
    link: Arc<Link>,
    reads: IoDeadline,
    writes: IoDeadline,
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        // It was the application's when an upgrade began.
        self.link.stays_for(Stays::Upgraded);
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for ConnIo<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(Upgraded { holder, reads, .. }) = this.upgraded()
            && let Poll::Ready(cut) = reads.poll(holder, cx)
        {
            return Poll::Ready(Err(cut));
        }
        if this.link.holds_reads() {
            // No waker: the driver, which asked for this, polls again.
            return Poll::Pending;
        }
        if this.replay.has_remaining() {
            let n = this.replay.len().min(buf.remaining());
            buf.put_slice(&this.replay.split_to(n));
            this.link.has_read();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if buf.filled().len() > before && this.upgraded.is_none() {
            this.link.has_read();
        }
        polled
    }
}

impl<Io: AsyncWrite + Unpin> ConnIo<Io> {
    fn poll_out<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Io>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Some(Upgraded { holder, writes, .. }) = self.upgraded()
            && let Poll::Ready(cut) = writes.poll(holder, cx)
        {
            return Poll::Ready(Err(cut));
        }
        poll(Pin::new(&mut self.io), cx)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for ConnIo<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.link.has_written();
        this.poll_out(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.link.has_written();
        this.poll_out(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = this.poll_out(cx, |io, cx| io.poll_flush(cx));
        if let Poll::Ready(Ok(())) = polled {
            this.link.has_flushed();
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx, |io, cx| io.poll_shutdown(cx))
    }
}
