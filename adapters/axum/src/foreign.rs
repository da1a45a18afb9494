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

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    marker::PhantomData,
    net::SocketAddr,
    task::Poll,
    time::Duration,
};

use handover::{Accept, Address, Connection, Graceful, Guard, Phase, Phases, Tracked};
use tokio::time::{sleep, timeout};

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
    listener: A,
    graceful: Graceful,
    phases: Phases,
    phase: Phase,
    // While it may accept, a drain cannot end between `accept` and the connection's own holder.
    guard: Option<Guard>,
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
            listener,
            phases: graceful.phases(),
            phase: graceful.phase(),
            guard: graceful.guard(),
            graceful: graceful.clone(),
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
        let graceful = self.graceful.clone();
        async move {
            let mut phases = graceful.phases();
            loop {
                graceful.draining().await;
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

    async fn next(&mut self) -> (Tracked<A::Io>, Address) {
        loop {
            let before = self.phase;
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
                    let connection = Connection::new(peer.clone());
                    self.listener.introduce(&mut io, &connection);
                    if let Ok(io) = Tracked::new(io, connection, &self.graceful) {
                        return (io, peer);
                    }
                }
                Some(Err(error)) => pause(&error).await,
                None if self.phase != before => {}
                // Until a drain is taken back.
                None => {
                    self.guard = None;
                    self.phase = self.phases.next().await;
                }
            }
        }
    }

    /// What the kernel has queued, where nobody else will take it.
    async fn queued(&mut self) -> Option<io::Result<(A::Io, Address)>> {
        if self.graceful.phase() > Phase::Draining {
            return None;
        }
        if self.graceful.reason().is_some_and(|r| r.is_upgrade()) {
            // What the successor does not have, until the phase changes.
            return tokio::select! {
                biased;
                phase = self.phases.next() => {
                    self.phase = phase;
                    None
                }
                left = poll_fn(|cx| self.listener.poll_leftover(cx)) => left,
            };
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

impl<A: Accept> axum::serve::Listener for Incoming<A, Address> {
    type Io = Tracked<A::Io>;
    type Addr = Address;

    async fn accept(&mut self) -> (Self::Io, Address) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<Address> {
        self.listener.local_addr()
    }
}

impl<A: Accept> axum::serve::Listener for Incoming<A, SocketAddr> {
    type Io = Tracked<A::Io>;
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
