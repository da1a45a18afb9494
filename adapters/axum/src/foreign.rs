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
//! connections cannot move to a successor. The report of an upgrade counts them, as
//! [`Stays::Framework`](handover::Stays::Framework). The table of `handover_hyper` compares the ways
//! in.

use std::{fmt, future::Future, io, marker::PhantomData, net::SocketAddr, sync::Arc};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use handover::{Accept, Address, Connection, Graceful, Tracked, accept::TrackedIncoming};

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
/// let incoming = Incoming::tcp(listener, &graceful);
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
    connections: TrackedIncoming<A>,
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
        Self {
            connections: TrackedIncoming::new(listener, graceful),
            addr: PhantomData,
        }
    }

    /// The shutdown signal for `with_graceful_shutdown`.
    ///
    /// It ends when the announce window of the drain is over, or as soon as nothing is left to wait
    /// for: until then idle connections are answered once more, with `Connection: close`, where
    /// axum would close them at once.
    ///
    /// If a successor dies within the window, accepting goes on. Later it cannot: axum's loop has
    /// ended.
    pub fn signal(&self) -> impl Future<Output = ()> + Send + use<A, Addr> {
        let graceful = self.connections.graceful().clone();
        async move { while !graceful.announced().await {} }
    }
}

/// The connection of a request under axum's own loop, so that what it becomes is listed as that: give
/// the application as `app.into_make_service_with_connect_info::<Client>()`, and
/// [`Draining`](crate::Draining) finds it.
///
/// # Examples
///
/// ```
/// use axum::{Router, extract::ConnectInfo, routing::get};
/// use handover_axum::foreign::Client;
///
/// async fn requests(ConnectInfo(client): ConnectInfo<Client>) -> String {
///     format!("{}\n", client.connection().peer())
/// }
///
/// let app = Router::new().route("/", get(requests));
/// let app = app.into_make_service_with_connect_info::<Client>();
/// # drop(app);
/// ```
#[derive(Clone, Debug)]
pub struct Client(Arc<Connection>);

impl Client {
    /// What is known of the connection.
    #[must_use]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl<A, Addr> Connected<IncomingStream<'_, Incoming<A, Addr>>> for Client
where
    A: Accept,
    Incoming<A, Addr>: axum::serve::Listener<Io = Tracked<A::Io>>,
{
    fn connect_info(stream: IncomingStream<'_, Incoming<A, Addr>>) -> Self {
        Self(stream.io().connection().clone())
    }
}

impl<A: Accept> axum::serve::Listener for Incoming<A, Address> {
    type Io = Tracked<A::Io>;
    type Addr = Address;

    async fn accept(&mut self) -> (Self::Io, Address) {
        self.connections.next().await
    }

    fn local_addr(&self) -> io::Result<Address> {
        self.connections.local_addr()
    }
}

impl<A: Accept> axum::serve::Listener for Incoming<A, SocketAddr> {
    type Io = Tracked<A::Io>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            // A listener whose peers have no socket address has been taken for one of TCP.
            if let (io, Address::Tcp(peer)) = self.connections.next().await {
                return (io, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self.connections.local_addr()?;
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
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
