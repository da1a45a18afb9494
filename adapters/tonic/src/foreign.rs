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
//! - it sends GOAWAY to all connections at one moment, however many there are;
//! - with TLS, a call that was on its way when its client answered the PING may end the connection,
//!   and what is under way on it: see [`GoawayGate`], which is below the TLS here;
//! - with `max_connection_age_grace` set, it closes without any GOAWAY;
//! - it has no limit on clients that send nothing.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    Stream,
    stream::{self, BoxStream},
};
use handover::{
    Accept, Address, Graceful, Tracked,
    accept::{Taken, TrackedIncoming},
};
use handover_hyper::GoawayGate;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::timeout,
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
    taken: Taken,
}

impl<A: Accept> Incoming<A> {
    /// Tracks the connections of any listener.
    #[must_use]
    pub fn new(listener: A, graceful: &Graceful) -> Self {
        let connections = TrackedIncoming::new(listener, graceful);
        let local = connections.local_addr().ok();
        let taken = connections.taken();
        let connections = stream::unfold((connections, local), async |(mut connections, local)| {
            let (io, _) = connections.next().await;
            let conn = Conn::new(io, local.as_ref());
            Some((Ok(conn), (connections, local)))
        });
        Self {
            connections: Box::pin(connections),
            graceful: graceful.clone(),
            taken,
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
        let mut taken = self.taken.clone();
        async move {
            loop {
                graceful.draining().await;
                if graceful.is_stopping() {
                    let _ = timeout(QUEUE, taken.wait()).await;
                    return;
                }
                if graceful.announced().await {
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

/// A tracked connection, of which tonic's requests know the addresses.
///
/// # Examples
///
/// ```
/// use std::net::SocketAddr;
///
/// use handover_tonic::foreign::Conn;
/// use tokio::net::TcpStream;
///
/// /// Which address of ours a client has connected to.
/// fn local(io: &Conn<TcpStream>) -> std::io::Result<SocketAddr> {
///     io.get_ref().get_ref().local_addr()
/// }
/// ```
#[derive(Debug)]
pub struct Conn<Io> {
    io: GoawayGate<Tracked<Io>>,
    info: TcpConnectInfo,
}

impl<Io> Conn<Io> {
    fn new(io: Tracked<Io>, listener: Option<&Address>) -> Self {
        let local = listener.and_then(Address::as_socket_addr);
        let info = TcpConnectInfo {
            local_addr: specific(local),
            remote_addr: io.connection().peer().as_socket_addr(),
        };
        Self {
            io: GoawayGate::new(io),
            info,
        }
    }

    /// The connection below.
    pub fn get_ref(&self) -> &Tracked<Io> {
        self.io.get_ref()
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

handover::forward_write!(Conn, io);
