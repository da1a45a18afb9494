//! A connection that does its handshake when it is first used.
//!
//! # Invariants
//!
//! 1. No byte is given to the reader that did not come out of a finished handshake. A connection
//!    whose handshake failed gives none at all: what still comes is thrown away.
//! 2. Whoever has polled while the handshake was under way is woken when that ends, in whichever task
//!    it was: only the last to poll is woken by the socket.
//! 3. Its time begins with the first poll, and covers the whole handshake, however its bytes trickle.

use std::{
    fmt,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use handover::Connection;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_rustls::{TlsAcceptor, server};

use crate::{Tls, TlsInfo, socket::Socket};

/// A connection of a [`TlsListener`](crate::TlsListener).
///
/// The handshake is done by whoever first reads or writes, in its task, so that many are done on all
/// cores and none holds up the accepting. While it is under way the connection is listed as a TLS
/// handshake ([`Kind::Handshake`](handover::Kind::Handshake)), from the first byte of its client on. If it fails, or takes longer
/// than [it may](crate::Builder::handshake_timeout), reading fails, and this connection alone is over.
///
/// Shutting it down sends close_notify; or just ends it, where the handshake is not done. Dropping it
/// does so only if what was spoken over it [has ended well](Connection::end_well): what was broken off
/// is not to look complete.
///
/// # Examples
///
/// ```
/// use handover_tls::TlsStream;
/// use tokio::{io::AsyncWriteExt, net::TcpStream};
///
/// /// Serves a protocol of its own, on this thread's runtime.
/// async fn serve(stream: TlsStream<TcpStream>) -> std::io::Result<()> {
///     let mut stream = stream.try_map_io(|io| TcpStream::from_std(io.into_std()?))?;
///     assert!(stream.info().is_none(), "nobody has read or written yet");
///     stream.handshake().await?;
///     let resumed = stream.info().is_some_and(|tls| tls.is_resumed());
///     let greeting = if resumed { "welcome back\n" } else { "hello\n" };
///     stream.write_all(greeting.as_bytes()).await?;
///     stream.shutdown().await
/// }
/// ```
pub struct TlsStream<Io: AsyncRead + AsyncWrite + Unpin> {
    state: State<Io>,
    connection: Option<Arc<Connection>>,
}

enum State<Io> {
    /// Nobody has read or written yet.
    Waiting(Io, Tls),
    Handshake(Box<Handshake<Io>>),
    Open(Box<server::TlsStream<Socket<Io>>>),
    /// Over before it was open.
    Failed(Io),
    /// Between two states.
    Gone,
}

struct Handshake<Io> {
    accept: tokio_rustls::server::FallibleAccept<Socket<Io>>,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    stopped: Arc<AtomicBool>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy)]
enum Side {
    Reads,
    Writes,
}

impl<Io> TlsStream<Io>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    pub(crate) fn new(io: Io, tls: Tls) -> Self {
        Self {
            state: State::Waiting(io, tls),
            connection: None,
        }
    }

    /// The socket below, which is given too; nothing has been read.
    pub(crate) fn introduce(&mut self, connection: &Arc<Connection>) -> Option<&mut Io> {
        self.connection = Some(connection.clone());
        match &mut self.state {
            State::Waiting(io, _) => Some(io),
            _ => None,
        }
    }

    /// Exchanges the socket below, if nobody has read or written yet: to take it into another runtime.
    ///
    /// # Errors
    ///
    /// What `change` fails with; the connection is lost then.
    pub fn try_map_io(mut self, change: impl FnOnce(Io) -> io::Result<Io>) -> io::Result<Self> {
        self.state = match mem::replace(&mut self.state, State::Gone) {
            State::Waiting(io, tls) => State::Waiting(change(io)?, tls),
            other => other,
        };
        Ok(self)
    }

    /// What was agreed; `None` while the handshake is not done.
    #[must_use]
    pub fn info(&self) -> Option<TlsInfo> {
        match &self.state {
            State::Open(stream) => Some(TlsInfo::new(stream.get_ref().1)),
            _ => None,
        }
    }

    /// Does the handshake, if nobody has read or written yet. Reading and writing do it as well.
    ///
    /// # Errors
    ///
    /// If the client does not speak TLS, or no version or cipher in common; if its certificate is not
    /// good; if it goes, or is too slow.
    ///
    /// # Cancel safety
    ///
    /// The handshake is where it was, and goes on with the next call.
    pub async fn handshake(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_open(cx, Side::Reads).map_ok(drop)).await
    }

    /// The open stream, after its handshake.
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        side: Side,
    ) -> Poll<io::Result<Pin<&mut server::TlsStream<Socket<Io>>>>> {
        if !matches!(self.state, State::Open(_)) {
            ready!(self.poll_handshake(cx, side))?;
        }
        Poll::Ready(match &mut self.state {
            State::Open(stream) => Ok(Pin::new(&mut **stream)),
            _ => Err(over()),
        })
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>, side: Side) -> Poll<io::Result<()>> {
        if matches!(self.state, State::Waiting(..))
            && let State::Waiting(io, tls) = mem::replace(&mut self.state, State::Gone)
        {
            self.state = State::Handshake(Handshake::begin(io, &tls, self.connection.clone()));
        }
        let State::Handshake(handshake) = &mut self.state else {
            return Poll::Ready(Err(over()));
        };
        let done = ready!(handshake.poll(cx, side));
        for waker in [handshake.reader.take(), handshake.writer.take()] {
            waker.into_iter().for_each(Waker::wake);
        }
        Poll::Ready(match done {
            Ok(stream) => {
                if let Some(connection) = &self.connection {
                    connection.set_facts(TlsInfo::new(stream.get_ref().1));
                    connection.end_handshake();
                }
                self.state = State::Open(Box::new(stream));
                Ok(())
            }
            Err((error, socket)) => {
                let peer = self.connection.as_ref().map(|known| known.peer());
                let peer = peer.map_or_else(String::new, ToString::to_string);
                tracing::debug!(peer, %error, "a TLS handshake has failed");
                self.state = socket.map_or(State::Gone, |socket| State::Failed(socket.io));
                Err(error)
            }
        })
    }

    /// The socket, once nothing more is to be made of the handshake.
    fn fail(&mut self) -> Option<&mut Io> {
        self.state = match mem::replace(&mut self.state, State::Gone) {
            State::Waiting(io, _) | State::Failed(io) => State::Failed(io),
            State::Handshake(mut handshake) => match handshake.stop() {
                Some(socket) => State::Failed(socket.io),
                None => State::Gone,
            },
            other => other,
        };
        match &mut self.state {
            State::Failed(io) => Some(io),
            _ => None,
        }
    }
}

impl<Io> Handshake<Io>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    fn begin(io: Io, tls: &Tls, connection: Option<Arc<Connection>>) -> Box<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let socket = Socket::new(io, connection, stopped.clone());
        let limit = tls.handshake_timeout();
        Box::new(Self {
            accept: TlsAcceptor::from(tls.config())
                .accept(socket)
                .into_fallible(),
            limit,
            timer: Box::pin(sleep(limit)),
            stopped,
            reader: None,
            writer: None,
        })
    }

    #[expect(clippy::type_complexity, reason = "a stream, or why there is none")]
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        side: Side,
    ) -> Poll<Result<server::TlsStream<Socket<Io>>, (io::Error, Option<Socket<Io>>)>> {
        if let Poll::Ready(done) = Pin::new(&mut self.accept).poll(cx) {
            return Poll::Ready(done.map_err(|(error, socket)| (error, Some(socket))));
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            let text = format!("the TLS handshake was not done within {:?}", self.limit);
            let error = io::Error::new(io::ErrorKind::TimedOut, text);
            return Poll::Ready(Err((error, self.stop())));
        }
        let place = match side {
            Side::Reads => &mut self.reader,
            Side::Writes => &mut self.writer,
        };
        *place = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes the socket out.
    fn stop(&mut self) -> Option<Socket<Io>> {
        self.stopped.store(true, Relaxed);
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.accept).poll(&mut cx) {
            Poll::Ready(Err((_, socket))) => Some(socket),
            // All it could do is to use the socket, which fails.
            _ => None,
        }
    }
}

fn over() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "there was no TLS handshake on this connection",
    )
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.state {
            // So that a close is no reset, which might overtake the alert that says why.
            State::Failed(io) => poll_discard(io, cx),
            State::Gone => Poll::Ready(Ok(())),
            _ => ready!(this.poll_open(cx, Side::Reads))?.poll_read(cx, buf),
        }
    }
}

fn poll_discard<Io: AsyncRead + Unpin>(io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut scratch = [0; 4096];
    loop {
        let mut buf = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut *io).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.get_mut().poll_open(cx, Side::Writes))?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.get_mut().poll_open(cx, Side::Writes))?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            State::Open(stream) => Pin::new(&mut **stream).poll_flush(cx),
            // Nothing was written.
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let State::Open(stream) = &mut this.state {
            return Pin::new(&mut **stream).poll_shutdown(cx);
        }
        match this.fail() {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Drop for TlsStream<Io> {
    fn drop(&mut self) {
        let known = self.connection.as_ref();
        if let State::Open(stream) = &mut self.state
            && known.is_some_and(|known| known.has_ended_well())
        {
            // Some 30 bytes, for which there is room where the client takes what it is sent. Nobody
            // is left who could wait for it. Sent already, it is not sent again.
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut **stream).poll_shutdown(&mut cx);
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> fmt::Debug for TlsStream<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Waiting(..) => "waiting",
            State::Handshake(_) => "handshake",
            State::Open(_) => "open",
            State::Failed(_) | State::Gone => "failed",
        };
        f.debug_struct("TlsStream")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
