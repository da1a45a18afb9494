//! Where connections come from, and how each is tracked from `accept` to its last byte.
//!
//! [`Accept`] is a listener that can be polled. [`Address`] says where a connection comes from and
//! where a listener listens, for TCP and Unix sockets alike.
//!
//! In an upgrade connections may go from one generation to the next. Serve loops move those of HTTP.
//! A program that speaks a protocol of its own serves its connections as [`Movable`]s, which
//! [`Movables`] makes of a listener.

mod address;
mod connection;
mod deadline;
mod departures;
#[macro_use]
mod forward;
mod held;
mod incoming;
mod movable;
mod movables;
mod moving;
mod protocol;
mod proxied;
#[cfg(feature = "proxy-protocol")]
pub(crate) mod proxy;
mod reactor;
mod replay;
mod reset;
mod tracked;
mod tracked_incoming;
mod wish;

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::Stays;

#[cfg(all(test, unix, feature = "process"))]
pub(crate) use self::proxied::tests::full as full_proxied;
#[cfg(feature = "proxy-protocol")]
pub use self::proxy::{Network, NotANetwork, ProxyPolicy, ProxyProtocol, ProxyStream};

pub use self::{
    address::Address,
    connection::Connection,
    deadline::IoDeadline,
    departures::{Departure, Departures},
    incoming::{Incoming, Next},
    movable::Movable,
    movables::Movables,
    moving::{Arrival, Giving, MAX_STATE, MAX_UNREAD, Mover, Parcel},
    protocol::Protocol,
    proxied::Proxied,
    reactor::reactor_has_looked,
    reset::reset_when_dropped,
    tracked::Tracked,
    tracked_incoming::{Taken, TrackedIncoming},
    wish::{Wish, Wishes},
};

/// A source of connections.
///
/// Implemented for tokio's [`TcpListener`](tokio::net::TcpListener) and
/// [`UnixListener`](tokio::net::UnixListener), and for the listeners that a generation opens or
/// inherits. Implement it for a listener of your own (a TLS acceptor, a test's duplex pipe) to
/// serve on that.
///
/// # Errors
///
/// An error is about one attempt, not about the listener: whoever polls decides whether to go on.
///
/// # Cancel safety
///
/// A poll either returns a connection or leaves it in the queue, so nothing is lost by not
/// polling again.
///
/// # Examples
///
/// A listener of a test's, without a network:
///
/// ```
/// # use std::{io, task::{Context, Poll}};
/// use handover::{Accept, Address, Graceful, accept::TrackedIncoming};
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt, DuplexStream}, sync::mpsc};
///
/// struct Pipes(mpsc::Receiver<DuplexStream>);
///
/// impl Accept for Pipes {
///     type Io = DuplexStream;
///
///     fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(DuplexStream, Address)>> {
///         match self.0.poll_recv(cx) {
///             Poll::Ready(Some(io)) => Poll::Ready(Ok((io, Address::Unix(None)))),
///             // Nobody will connect any more; a drain ends who waits for that.
///             _ => Poll::Pending,
///         }
///     }
///
///     fn local_addr(&self) -> io::Result<Address> {
///         Ok(Address::Unix(None))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (connect, pipes) = mpsc::channel(8);
/// let mut incoming = TrackedIncoming::new(Pipes(pipes), &Graceful::new());
/// let (mut client, server) = tokio::io::duplex(64);
/// connect.send(server).await?;
/// let (mut io, _peer) = incoming.next().await;
/// io.write_all(b"hello").await?;
/// drop(io);
/// let mut text = String::new();
/// client.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # }
/// ```
///
/// One around another passes on all that it does not change, or what moves and what is left over gets
/// lost on it:
///
/// ```
/// # use std::{io, sync::Arc, task::{Context, Poll}};
/// # use handover::Stays;
/// use handover::{Accept, Address, Connection, accept::{Arrival, Mover, Protocol}};
///
/// /// Says who connects.
/// struct Logged<A>(A);
///
/// impl<A: Accept> Accept for Logged<A> {
///     type Io = A::Io;
///
///     fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(A::Io, Address)>> {
///         self.0.poll_accept(cx)
///     }
///
///     fn poll_leftover(
///         &mut self,
///         cx: &mut Context<'_>,
///     ) -> Poll<Option<io::Result<(A::Io, Address)>>> {
///         self.0.poll_leftover(cx)
///     }
///
///     fn introduce(&self, io: &mut A::Io, connection: &Arc<Connection>) {
///         println!("a connection from {}", connection.peer());
///         self.0.introduce(io, connection);
///     }
///
///     fn local_addr(&self) -> io::Result<Address> {
///         self.0.local_addr()
///     }
///
///     fn poll_adopt(&mut self, cx: &mut Context<'_>) -> Poll<Arrival<A::Io>> {
///         self.0.poll_adopt(cx)
///     }
///
///     fn adopts(&self, protocols: &[Protocol]) {
///         self.0.adopts(protocols);
///     }
///
///     fn mover(&self) -> Option<Arc<dyn Mover<A::Io>>> {
///         self.0.mover()
///     }
///
///     fn stays(&self) -> Stays {
///         self.0.stays()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> io::Result<()> {
/// let listener = Logged(tokio::net::TcpListener::bind("127.0.0.1:0").await?);
/// listener.will_adopt();
/// assert!(listener.mover().is_none(), "no listener but a generation's has one");
/// # Ok(())
/// # }
/// ```
pub trait Accept: Send + 'static {
    /// The connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Takes the next connection and the address of its peer.
    ///
    /// # Errors
    ///
    /// What `accept(2)` reports: `ECONNABORTED` and its kind are about a client that has gone,
    /// `EMFILE`, `ENFILE`, `ENOBUFS` and `ENOMEM` about this host.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Address)>>;

    /// Takes a connection that nobody else will, in a drain; `None` once there is no more. A serve
    /// loop polls this, with a guard in its hand, until it says so: after an upgrade instead of
    /// [`poll_accept`](Self::poll_accept), and where the service ends, once that finds nothing more.
    /// By default that is at once: the successor has the socket, or nobody will.
    ///
    /// A listener that has to hear from a connection before it can be served, returns here what it
    /// has begun with. Where the service ends, nothing more is accepted once this has been polled.
    ///
    /// # Errors
    ///
    /// As for [`poll_accept`](Self::poll_accept).
    #[expect(
        clippy::type_complexity,
        reason = "it is that of `poll_accept` in an `Option`"
    )]
    fn poll_leftover(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<(Self::Io, Address)>>> {
        let _ = cx;
        Poll::Ready(None)
    }

    /// Gives the IO of a connection that this listener has just accepted what will be known of that
    /// connection. Whoever polls the listener calls this once for each, before anything is read.
    ///
    /// For IO that has something to tell, as one that does a TLS handshake. By default it does
    /// nothing.
    fn introduce(&self, io: &mut Self::Io, connection: &Arc<Connection>) {
        let _ = (io, connection);
    }

    /// Where this listener listens, with the real port where port 0 was asked for.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` reports.
    fn local_addr(&self) -> io::Result<Address>;

    /// Takes the next connection that a predecessor gives. Nothing ever comes by default.
    ///
    /// Who polls this says so first, by [`adopts`](Self::adopts), and goes on polling it until its
    /// drain is over.
    fn poll_adopt(&mut self, cx: &mut Context<'_>) -> Poll<Arrival<Self::Io>> {
        let _ = cx;
        Poll::Pending
    }

    /// Says that [`poll_adopt`](Self::poll_adopt) will be polled, and what may come by it. The last
    /// call counts. What a predecessor gives otherwise is refused.
    fn adopts(&self, protocols: &[Protocol]) {
        let _ = protocols;
    }

    /// Says that [`poll_adopt`](Self::poll_adopt) will be polled, for HTTP.
    fn will_adopt(&self) {
        self.adopts(&[Protocol::HTTP]);
    }

    /// What gives this listener's connections to a successor; `None` if nothing can.
    fn mover(&self) -> Option<Arc<dyn Mover<Self::Io>>> {
        None
    }

    /// Why there is no [`mover`](Self::mover), for the report of an upgrade. One that accepts TLS
    /// says so here.
    fn stays(&self) -> Stays {
        Stays::Listener
    }
}

impl Accept for tokio::net::TcpListener {
    type Io = tokio::net::TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Address)>> {
        Self::poll_accept(self, cx).map_ok(|(io, peer)| (io, Address::Tcp(peer)))
    }

    fn local_addr(&self) -> io::Result<Address> {
        Self::local_addr(self).map(Address::Tcp)
    }
}

#[cfg(unix)]
impl Accept for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Address)>> {
        Self::poll_accept(self, cx).map_ok(|(io, peer)| (io, Address::from(peer)))
    }

    fn local_addr(&self) -> io::Result<Address> {
        Self::local_addr(self).map(Address::from)
    }
}
