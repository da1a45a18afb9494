//! The other way in: tonic's own server, on our listener, with our token.
//!
//! For who has to keep tonic's `Server`, its TLS for example. Put three things around it:
//! [`Incoming`] for the connections, [`DrainLayer`](crate::DrainLayer) around the routes, and
//! [`Incoming::signal`] as the shutdown signal. Then connections and calls are tracked, and a drain
//! ends on its deadline: calls that have no answer get `UNAVAILABLE`, streams end with trailers, and
//! all IO fails at the cut.
//!
//! What tonic's server cannot do, and [`serve`](crate::serve) can:
//!
//! - in an upgrade it sends GOAWAY only when the announce window is over, because once it has been
//!   told to stop it cannot accept again, should the successor die. When the service stops, GOAWAY
//!   comes at once on both ways;
//! - a peer that never answers the PING of a GOAWAY, sends half a preface or nothing at all holds
//!   the drain up to its deadline: there is no timer, and no final GOAWAY without the answer;
//! - it closes a connection at once after its last stream. What the client has not acknowledged by
//!   then, of a long answer, can be lost to a reset;
//! - with `max_connection_age_grace` set, it closes without any GOAWAY;
//! - it has no limit on clients that send nothing.

use std::{
    fmt,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    Stream,
    stream::{self, BoxStream},
};
use handover::{Accept, Address, Connection, Graceful, Guard, Phase, Phases, Tracked};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{sleep, timeout},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// For how long connections that the kernel has queued are waited for, where nobody else will
/// take them.
const QUEUE: Duration = Duration::from_millis(100);

/// The connections of a listener, tracked, for `serve_with_incoming_shutdown`.
///
/// ```no_run
/// use handover::Graceful;
/// use handover_tonic::{DrainLayer, foreign::Incoming};
/// use tonic::transport::Server;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let graceful = Graceful::new();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:50051").await?;
/// let incoming = Incoming::new(listener, &graceful);
/// let signal = incoming.signal();
/// Server::builder()
///     .layer(DrainLayer::new(graceful.clone()))
///     .add_service(handover_tonic::health())
///     .serve_with_incoming_shutdown(incoming, signal)
///     .await?;
/// println!("{}", graceful.drained().await);
/// # Ok(())
/// # }
/// ```
pub struct Incoming<A: Accept> {
    connections: BoxStream<'static, io::Result<Conn<A::Io>>>,
    graceful: Graceful,
    queue_is_empty: watch::Receiver<bool>,
}

impl<A: Accept> Incoming<A> {
    /// Tracks the connections of any listener.
    #[must_use]
    pub fn new(listener: A, graceful: &Graceful) -> Self {
        let (says, queue_is_empty) = watch::channel(false);
        let accepting = Accepting {
            local: listener.local_addr().ok(),
            listener,
            phases: graceful.phases(),
            phase: graceful.phase(),
            guard: graceful.guard(),
            graceful: graceful.clone(),
            queue_is_empty: says,
        };
        let connections = stream::unfold(accepting, async |mut accepting| {
            Some((Ok(accepting.next().await), accepting))
        });
        Self {
            connections: Box::pin(connections),
            graceful: graceful.clone(),
            queue_is_empty,
        }
    }

    /// The shutdown signal for `serve_with_incoming_shutdown`.
    ///
    /// When the service stops, it ends with the lame duck, once the connections that the kernel has
    /// queued are accepted. In an upgrade it ends when the announce window is over, or as soon as
    /// nothing is left to wait for: until then the drain can be taken back, should the successor
    /// die. Later it cannot: tonic's loop has ended.
    pub fn signal(&self) -> impl Future<Output = ()> + Send + use<A> {
        let graceful = self.graceful.clone();
        let mut queue_is_empty = self.queue_is_empty.clone();
        async move {
            loop {
                graceful.draining().await;
                if !graceful.reason().is_some_and(|r| r.is_upgrade()) {
                    let accepted = queue_is_empty.wait_for(|is_empty| *is_empty);
                    let _ = timeout(QUEUE, accepted).await;
                    return;
                }
                let mut phases = graceful.phases();
                let remaining = graceful.remaining().unwrap_or_default();
                let window = graceful.policy().announce(remaining);
                let left = async {
                    loop {
                        match phases.next().await {
                            Phase::Drained => return true,
                            Phase::Running => return false,
                            _ => {}
                        }
                    }
                };
                // What cannot be made final has just been taken back.
                if timeout(window, left).await.unwrap_or(true) && graceful.make_final() {
                    return;
                }
            }
        }
    }
}

impl<A: Accept> Stream for Incoming<A> {
    type Item = io::Result<Conn<A::Io>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.as_mut().poll_next(cx)
    }
}

impl<A: Accept> fmt::Debug for Incoming<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("graceful", &self.graceful)
            .finish_non_exhaustive()
    }
}

struct Accepting<A> {
    listener: A,
    local: Option<Address>,
    graceful: Graceful,
    phases: Phases,
    phase: Phase,
    // While it may accept, a drain cannot end between `accept` and the connection's own holder.
    guard: Option<Guard>,
    queue_is_empty: watch::Sender<bool>,
}

impl<A: Accept> Accepting<A> {
    async fn next(&mut self) -> Conn<A::Io> {
        loop {
            let accepted = if self.phase.accepts() {
                if self.guard.is_none() {
                    self.guard = self.graceful.guard();
                }
                tokio::select! {
                    biased;
                    phase = self.phases.next() => { self.phase = phase; continue }
                    accepted = poll_fn(|cx| self.listener.poll_accept(cx)) => Some(accepted),
                }
            } else {
                self.queued().await
            };
            match accepted {
                Some(Ok((mut io, peer))) => {
                    let connection = Connection::new(peer);
                    self.listener.introduce(&mut io, &connection);
                    if let Ok(io) = Tracked::new(io, connection, &self.graceful) {
                        return Conn::new(io, self.local.as_ref());
                    }
                }
                Some(Err(error)) => pause(&error).await,
                // Until a drain is taken back.
                None => {
                    self.guard = None;
                    self.queue_is_empty.send_replace(true);
                    self.phase = self.phases.next().await;
                    self.queue_is_empty.send_replace(false);
                }
            }
        }
    }

    /// What the kernel has queued, where nobody else will take it.
    async fn queued(&mut self) -> Option<io::Result<(A::Io, Address)>> {
        let inherited = self.graceful.reason().is_some_and(|r| r.is_upgrade());
        if inherited || self.graceful.phase() > Phase::Draining {
            return None;
        }
        // A connection that has just come may not have been reported yet: let the reactor look.
        for _ in 0..3 {
            let polled = tokio::task::unconstrained(poll_fn(|cx| {
                Poll::Ready(self.listener.poll_accept(cx))
            }));
            match polled.await {
                Poll::Ready(accepted) => return Some(accepted),
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
        None
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

/// A tracked connection, of which tonic's requests know the addresses.
#[derive(Debug)]
pub struct Conn<Io> {
    io: Tracked<Io>,
    info: TcpConnectInfo,
}

impl<Io> Conn<Io> {
    fn new(io: Tracked<Io>, listener: Option<&Address>) -> Self {
        let local = listener.and_then(Address::as_socket_addr);
        let info = TcpConnectInfo {
            local_addr: specific(local),
            remote_addr: io.connection().peer().as_socket_addr(),
        };
        Self { io, info }
    }

    /// The connection below.
    pub fn get_ref(&self) -> &Tracked<Io> {
        &self.io
    }
}

/// The address of a listener, where it is that of its connections, too.
pub(crate) fn specific(local: Option<SocketAddr>) -> Option<SocketAddr> {
    local.filter(|local| !local.ip().is_unspecified())
}

impl<Io> Connected for Conn<Io> {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Conn<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Conn<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
