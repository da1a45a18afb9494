//! The IO below hyper: replays what was read before, and tells the link what passes.

use std::{
    fmt,
    io::{self, IoSlice},
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use handover::{
    Holder, Kind, Stays,
    accept::{IoDeadline, Movable, Mover, Parcel, Protocol},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{http1::join, link::Link};

/// How much is read of a connection that is to move. Little, since it goes along in its message.
const READ_AHEAD: usize = 1024;

pub(crate) struct ConnIo<Io> {
    io: Io,
    // Read already, and to be read again first.
    replay: Bytes,
    link: Owned,
    // For what it may become.
    mover: Option<Arc<dyn Mover<Io>>>,
    // Once upgraded there is no driver any more, and the IO itself sees to its end.
    upgraded: Option<Upgraded>,
}

impl<Io> ConnIo<Io> {
    pub(crate) fn new(
        io: Io,
        replay: Bytes,
        link: Arc<Link>,
        mover: Option<Arc<dyn Mover<Io>>>,
    ) -> Self {
        Self {
            io,
            replay,
            link: Owned::new(link),
            mover,
            upgraded: None,
        }
    }

    /// The connection, and what of the replay nobody has read.
    pub(crate) fn into_parts(self) -> (Io, Bytes) {
        (self.io, self.replay)
    }

    /// The connection, with what hyper has read of it, as one that the application may give away;
    /// `None` if the drain is over.
    pub(crate) fn into_movable(self, read: Bytes, protocol: Protocol) -> Option<Movable<Io>>
    where
        Io: 'static,
    {
        let Self {
            io,
            replay,
            link,
            mover,
            upgraded,
        } = self;
        // hyper tells the application of it before it tells the driver. Until that knows, it has
        // the holder, and lets go of it afterwards.
        let holder = upgraded
            .map(Upgraded::into_holder)
            .or_else(|| link.take_upgraded())
            .or_else(|| link.connection.hold(&link.graceful))?;
        link.connection.set_kind(Kind::Upgraded);
        let unread = join(read, replay);
        let parcel = Parcel::new(io, unread.into(), link.connection.clone());
        let graceful = &link.graceful;
        Some(Movable::new(parcel, protocol, graceful, holder, mover))
    }

    // A connection that the application has taken over fails after the cut.
    fn upgraded(&mut self) -> Option<&mut Upgraded> {
        if self.upgraded.is_none() {
            let link = &self.link;
            self.upgraded = link.take_upgraded().map(|holder| Upgraded {
                holder,
                stays: StaysUpgraded(Some(Arc::clone(link))),
                reads: IoDeadline::default(),
                writes: IoDeadline::default(),
            });
        }
        self.upgraded.as_mut()
    }
}

#[derive(Debug)]
struct Upgraded {
    // Before the holder, which may end the drain.
    stays: StaysUpgraded,
    holder: Holder,
    reads: IoDeadline,
    writes: IoDeadline,
}

impl Upgraded {
    /// For who can move it.
    fn into_holder(mut self) -> Holder {
        self.stays.0 = None;
        self.holder
    }
}

/// The link, while it has an IO. Others may keep it for longer: a request's body does.
#[derive(Debug)]
struct Owned(Arc<Link>);

impl Owned {
    fn new(link: Arc<Link>) -> Self {
        link.begin_io();
        Self(link)
    }
}

impl Deref for Owned {
    type Target = Arc<Link>;

    fn deref(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.end_io();
    }
}

/// It was the application's when an upgrade began.
#[derive(Debug)]
struct StaysUpgraded(Option<Arc<Link>>);

impl Drop for StaysUpgraded {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.stays_for(Stays::Upgraded);
        }
    }
}

impl<Io: AsyncRead + Unpin> ConnIo<Io> {
    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let received = buf.filled().len() - before;
        if received > 0 && !self.link.has_left() {
            self.link.has_read();
        }
        self.link.connection.count_received(received);
        polled
    }

    /// While reads are held back: what comes is kept for who has the connection next. Only its end, or
    /// an error, is told, so that a client which gives up its request is noticed.
    ///
    /// Once it is full there is no waker: the driver, which asked for this, polls again.
    #[cold]
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.replay.len() < READ_AHEAD {
            let mut scratch = [0; READ_AHEAD];
            let room = READ_AHEAD - self.replay.len();
            let mut buf = ReadBuf::new(&mut scratch[..room]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            let come = buf.filled();
            if come.is_empty() {
                // Behind what has come it is told in its turn: it is there at every read.
                return if self.replay.is_empty() {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            self.link.has_read();
            self.link.connection.count_received(come.len());
            self.replay = join(
                std::mem::take(&mut self.replay),
                Bytes::copy_from_slice(come),
            );
        }
        Poll::Pending
    }

    /// Gives what was read before, and what has come since, so that a head is read as one: for half of
    /// one hyper would keep a second buffer.
    #[cold]
    fn replay(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) {
        let n = self.replay.len().min(buf.remaining());
        buf.put_slice(&self.replay.split_to(n));
        self.link.has_read();
        if buf.remaining() > 0 {
            // An error, or the end, comes with the next read again.
            let _ = self.read(cx, buf);
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for ConnIo<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.link.reads_freely() {
            if let Some(Upgraded { holder, reads, .. }) = this.upgraded()
                && let Poll::Ready(cut) = reads.poll(holder, cx)
            {
                return Poll::Ready(Err(cut));
            }
            if this.link.holds_reads() {
                return this.read_ahead(cx);
            }
        }
        if !this.replay.is_empty() {
            this.replay(cx, buf);
            return Poll::Ready(Ok(()));
        }
        this.read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> ConnIo<Io> {
    fn poll_out<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Io>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.link.has_left()
            && let Some(Upgraded { holder, writes, .. }) = self.upgraded()
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
        let polled = this.poll_out(cx, |io, cx| io.poll_write(cx, buf));
        this.link.connection.count_sent(&polled);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.link.has_written();
        let polled = this.poll_out(cx, |io, cx| io.poll_write_vectored(cx, bufs));
        this.link.connection.count_sent(&polled);
        polled
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

impl<Io> fmt::Debug for ConnIo<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnIo")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
