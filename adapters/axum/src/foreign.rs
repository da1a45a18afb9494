//! The other way in: axum's own serve loop, on our listener, with our token.
//!
//! For who has to keep `axum::serve`. Put three things around it: [`Incoming`] as the listener,
//! [`GracefulLayer`](handover::GracefulLayer) around the routes, and [`Incoming::signal`] as the
//! shutdown signal. Then connections are tracked, the drain is announced before anything is
//! closed, and ends on its deadline: handlers are answered for with 503, bodies broken off, and all
//! IO fails at the cut, WebSockets' included.
//!
//! What axum's loop cannot do, and [`serve`](crate::serve) can: it has no limits on slow heads, idle
//! or old connections; it sends GOAWAY to HTTP/2 clients only when it stops; it closes an idle
//! connection without a last look, and with half a request head in its buffer; and its idle
//! connections cannot move to a successor.

use std::{
    fmt,
    future::{Future, pending, poll_fn},
    io,
    marker::PhantomData,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use handover::{Accept, Address, Connection, Graceful, Holder, Phase, Tracked};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::sleep,
};

/// A listener for `axum::serve` whose connections are tracked.
///
/// Its address type is [`Address`], or [`SocketAddr`] after [`tcp`](Self::tcp), which is what
/// `ConnectInfo<SocketAddr>` needs:
///
/// ```no_run
/// use std::net::SocketAddr;
///
/// use axum::{Router, routing::get, serve::ListenerExt};
/// use handover::{Graceful, GracefulLayer};
/// use handover_axum::foreign::Incoming;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let graceful = Graceful::new();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// let mut incoming = Incoming::tcp(listener, &graceful);
/// let signal = incoming.signal();
/// let app = Router::new()
///     .route("/", get(async || "hello"))
///     .layer(GracefulLayer::new(graceful.clone()));
/// // `tap_io` makes `ConnectInfo<SocketAddr>` work over any listener.
/// let app = app.into_make_service_with_connect_info::<SocketAddr>();
/// axum::serve(incoming.tap_io(|_| {}), app)
///     .with_graceful_shutdown(signal)
///     .await?;
/// println!("{}", graceful.drained().await);
/// # Ok(())
/// # }
/// ```
pub struct Incoming<A, Addr = Address> {
    listener: A,
    graceful: Graceful,
    holder: Option<Holder>,
    // A clone is in each connection: when all are gone, so is the channel.
    open: Option<mpsc::Sender<()>>,
    closed: Option<mpsc::Receiver<()>>,
    addr: PhantomData<fn() -> Addr>,
}

impl<A: Accept> Incoming<A, Address> {
    /// Tracks the connections of any listener.
    #[must_use]
    pub fn new(listener: A, graceful: &Graceful) -> Self {
        Self::of(listener, graceful)
    }
}

impl<A: Accept> Incoming<A, SocketAddr> {
    /// Tracks the connections of a TCP listener.
    #[must_use]
    pub fn tcp(listener: A, graceful: &Graceful) -> Self {
        Self::of(listener, graceful)
    }
}

impl<A: Accept, Addr> Incoming<A, Addr> {
    fn of(listener: A, graceful: &Graceful) -> Self {
        let (open, closed) = mpsc::channel(1);
        Self {
            listener,
            holder: graceful.hold("accept"),
            graceful: graceful.clone(),
            open: Some(open),
            closed: Some(closed),
            addr: PhantomData,
        }
    }

    /// The shutdown signal for `with_graceful_shutdown`.
    ///
    /// It ends when the announce window of the drain is over, or as soon as no connection is left:
    /// until then idle connections are answered once more, with `Connection: close`, where axum
    /// would close them at once.
    ///
    /// # Panics
    ///
    /// If it is taken a second time.
    pub fn signal(&mut self) -> impl Future<Output = ()> + Send + use<A, Addr> {
        let graceful = self.graceful.clone();
        let mut closed = self.closed.take().expect("the signal is taken once");
        async move {
            graceful.draining().await;
            let remaining = graceful.remaining().unwrap_or_default();
            let window: Duration = graceful.policy().announce(remaining);
            tokio::select! {
                _ = closed.recv() => {}
                () = sleep(window) => {}
            }
        }
    }

    async fn next(&mut self) -> (Connected<A::Io>, Address) {
        loop {
            let Some(open) = self.open.clone() else {
                return pending().await;
            };
            let graceful = self.graceful.clone();
            let accepted = tokio::select! {
                biased;
                () = graceful.draining() => self.queued().await,
                accepted = poll_fn(|cx| self.listener.poll_accept(cx)) => Some(accepted),
            };
            match accepted {
                Some(Ok((io, peer))) => {
                    let connection = Connection::new(peer.clone());
                    match Tracked::new(io, connection, &self.graceful) {
                        Ok(io) => return (Connected { io, _open: open }, peer),
                        Err(_) => self.stop(),
                    }
                }
                Some(Err(error)) => pause(&error).await,
                None => self.stop(),
            }
        }
    }

    /// What the kernel has queued, where nobody else will take it.
    async fn queued(&mut self) -> Option<io::Result<(A::Io, Address)>> {
        let inherited = self.graceful.reason().is_some_and(|r| r.is_upgrade());
        if inherited || self.graceful.phase() > Phase::Draining {
            return None;
        }
        let polled =
            tokio::task::unconstrained(poll_fn(|cx| Poll::Ready(self.listener.poll_accept(cx))));
        match polled.await {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        }
    }

    fn stop(&mut self) {
        self.open = None;
        self.holder = None;
    }
}

async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    let one_client = [ConnectionAborted, ConnectionRefused, ConnectionReset];
    if !one_client.contains(&error.kind()) {
        tracing::error!(%error, "cannot accept; connections wait in the kernel's queue");
        sleep(Duration::from_millis(100)).await;
    }
}

impl<A: Accept> axum::serve::Listener for Incoming<A, Address> {
    type Io = Connected<A::Io>;
    type Addr = Address;

    async fn accept(&mut self) -> (Self::Io, Address) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<Address> {
        self.listener.local_addr()
    }
}

impl<A: Accept> axum::serve::Listener for Incoming<A, SocketAddr> {
    type Io = Connected<A::Io>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            // A listener whose peers have no socket address has been taken for one of TCP.
            if let (io, Address::Tcp(peer)) = self.next().await {
                return (io, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self.listener.local_addr()?;
        addr.as_socket_addr().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{addr} is no TCP listener"),
            )
        })
    }
}

impl<A, Addr> fmt::Debug for Incoming<A, Addr> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("graceful", &self.graceful)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// A connection from [`Incoming`].
    #[derive(Debug)]
    pub struct Connected<Io> {
        #[pin]
        io: Tracked<Io>,
        _open: mpsc::Sender<()>,
    }
}

impl<Io> Connected<Io> {
    /// What is known of the connection.
    pub fn connection(&self) -> &Connection {
        self.io.connection()
    }

    /// The connection below.
    pub fn get_ref(&self) -> &Io {
        self.io.get_ref()
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Connected<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().io.poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Connected<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }
}
