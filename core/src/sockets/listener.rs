//! A listening socket of a generation.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::net::{TcpListener, UnixListener};

use super::{
    Stream,
    gate::{Gate, Pass},
    record::SocketKind,
};
use crate::{
    accept::{Accept, Address, Arrival, Connection, Giving, Mover, Parcel, Protocol},
    moving::{
        inbound::Adopting,
        outbound::{Given, Route},
    },
    upgrade::frame::Moved,
};

/// A TCP or Unix listener that this generation opened or inherited.
///
/// It accepts only while its generation serves: a first generation from
/// [`ready`](crate::Generation::ready) on, a successor from its predecessor's commit on. Until then
/// connections wait in the kernel's queue, where the predecessor takes them, so that none waits for
/// a program that is still warming its caches.
///
/// Dropping it closes this process's use of the socket. The generation keeps a duplicate for its
/// successor until it drains for good.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{future::poll_fn, pin::Pin};
/// use handover::{Accept, Generation};
///
/// let generation = Generation::start()?;
/// let mut listener = generation.listen("127.0.0.1:8080").await?;
/// generation.ready().await?;
/// let (stream, peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    name: String,
    socket: Socket,
    pass: Pass,
    adopting: Adopting,
    route: Route,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Registers a listening socket with the runtime. It is nonblocking already.
    pub(crate) fn new(
        name: String,
        kind: SocketKind,
        fd: OwnedFd,
        gate: &Gate,
        adopting: Adopting,
        route: Route,
    ) -> io::Result<Self> {
        let socket = match kind {
            SocketKind::Unix => Socket::Unix(UnixListener::from_std(fd.into())?),
            SocketKind::Tcp => Socket::Tcp(TcpListener::from_std(fd.into())?),
            SocketKind::Udp => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is a UDP socket",
                ));
            }
        };
        Ok(Self {
            name,
            socket,
            pass: gate.pass(),
            adopting,
            route,
        })
    }

    /// The name under which the next generation finds this socket.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens, with the real port where port 0 was asked for.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` reports.
    pub fn local_addr(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(Address::from),
            Socket::Unix(listener) => listener.local_addr().map(Address::from),
        }
    }

    /// Takes the next connection, once this generation serves.
    ///
    /// # Errors
    ///
    /// As for [`Accept::poll_accept`].
    ///
    /// # Cancel safety
    ///
    /// A connection is either returned or still in the kernel's queue.
    pub async fn accept(&mut self) -> io::Result<(Stream, Address)> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Waits until this generation may accept.
    ///
    /// For who takes the bare listener out and has to wait by other means. Cancel safe.
    pub async fn opened(&mut self) {
        self.pass.opened().await;
    }

    /// The tokio listener, for a framework that asks for one.
    ///
    /// It is no longer held back: wait for [`opened`](Self::opened) first, or it takes connections
    /// while the predecessor serves and this program still starts.
    ///
    /// # Errors
    ///
    /// Gives the listener back if it is a Unix listener.
    pub fn into_tokio_tcp(self) -> Result<TcpListener, Self> {
        match self.socket {
            Socket::Tcp(listener) => Ok(listener),
            Socket::Unix(_) => Err(self),
        }
    }

    /// The tokio listener of a Unix socket. As [`into_tokio_tcp`](Self::into_tokio_tcp), it is no
    /// longer held back.
    ///
    /// # Errors
    ///
    /// Gives the listener back if it is a TCP listener.
    pub fn into_tokio_unix(self) -> Result<UnixListener, Self> {
        match self.socket {
            Socket::Unix(listener) => Ok(listener),
            Socket::Tcp(_) => Err(self),
        }
    }

    /// The bare descriptor, out of the runtime: `std::net::TcpListener::from(fd)` and its kind make
    /// a listener of it. As [`into_tokio_tcp`](Self::into_tokio_tcp), it is no longer held back.
    ///
    /// It is nonblocking and must stay so: the flag is shared with every generation.
    ///
    /// # Errors
    ///
    /// If the runtime cannot deregister it.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self.socket {
            Socket::Tcp(listener) => Ok(listener.into_std()?.into()),
            Socket::Unix(listener) => Ok(listener.into_std()?.into()),
        }
    }
}

impl Accept for Listener {
    type Io = Stream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Address)>> {
        ready!(self.pass.poll_open(cx));
        match &self.socket {
            Socket::Tcp(listener) => {
                let (io, peer) = ready!(listener.poll_accept(cx))?;
                // Fails only on a connection that has gone already, which its first read says
                // better.
                let _ = io.set_nodelay(true);
                Poll::Ready(Ok((Stream::Tcp(io), peer.into())))
            }
            Socket::Unix(listener) => {
                let (io, peer) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Stream::Unix(io), peer.into())))
            }
        }
    }

    fn local_addr(&self) -> io::Result<Address> {
        Self::local_addr(self)
    }

    fn poll_adopt(&mut self, cx: &mut Context<'_>) -> Poll<Arrival<Stream>> {
        // Not held back by the gate: what is given after we have handed over ourselves goes on to
        // the next generation, by way of this one.
        self.adopting.poll(cx)
    }

    fn adopts(&self, protocols: &[Protocol]) {
        self.adopting.adopts(protocols);
    }

    fn mover(&self) -> Option<Arc<dyn Mover<Stream>>> {
        Some(Arc::new(ToSuccessor {
            listener: self.name.clone(),
            route: self.route.clone(),
        }))
    }
}

/// Gives connections of one listener to the successor's listener of the same name.
struct ToSuccessor {
    listener: String,
    route: Route,
}

impl Mover<Stream> for ToSuccessor {
    fn is_open(&self) -> bool {
        self.route.is_open()
    }

    fn give(&self, parcel: Parcel<Stream>) -> Giving<Stream> {
        let route = self.route.clone();
        let listener = self.listener.clone();
        Box::pin(async move {
            let Parcel {
                io,
                unread,
                connection,
                protocol,
                state,
                ..
            } = parcel;
            // Out of epoll before it is sent: a descriptor that is shared keeps firing otherwise.
            let given = match io.into_fd() {
                Ok(fd) => Given {
                    fd,
                    unread,
                    state,
                    record: record_of(listener, &connection, protocol),
                },
                Err(err) => {
                    // tokio has closed it, so there is nothing to give back.
                    tracing::warn!(peer = %connection.peer(), %err, "a connection was lost");
                    return Ok(());
                }
            };
            let Err(back) = route.give(given).await else {
                return Ok(());
            };
            match Stream::from_fd(back.fd, connection.peer()) {
                Ok(io) => {
                    let parcel = Parcel::new(io, back.unread, connection);
                    Err(parcel.speaking(protocol, back.state))
                }
                Err(err) => {
                    tracing::warn!(peer = %connection.peer(), %err, "a connection was lost");
                    Ok(())
                }
            }
        })
    }
}

fn record_of(listener: String, connection: &Connection, protocol: Protocol) -> Moved {
    Moved {
        // Chosen when it is sent.
        id: 0,
        listener,
        peer: connection.peer().to_string(),
        unread: 0,
        age_ms: u64::try_from(connection.since().elapsed().as_millis()).unwrap_or(u64::MAX),
        requests: connection.requests(),
        protocol: protocol.name().to_owned(),
        version: protocol.version(),
        state: 0,
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("name", &self.name)
            .field("address", &self.local_addr().ok())
            .finish_non_exhaustive()
    }
}
