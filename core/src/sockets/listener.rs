//! A listening socket of a generation.

mod into;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::net::{TcpListener, UnixListener};

use super::{
    Difference, SocketOptions, Stream,
    entrance::Entrance,
    gate::Gate,
    mover::ToSuccessor,
    record::{self, SocketKind},
    registry::Obtained,
};
use crate::{
    accept::{Accept, Address, Arrival, Mover, Protocol},
    moving::{inbound::Adopting, outbound::Route},
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
    entrance: Entrance,
    differences: Vec<Difference>,
    no_delay: bool,
    adopting: Adopting,
    route: Route,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
    /// Of TCP. It listens when the gate opens; to poll it before would be a hang-up for ever.
    Later(OwnedFd),
    /// Never seen: while it is registered.
    Nothing,
}

impl Listener {
    /// Registers a listening socket with the runtime. It is nonblocking already.
    pub(crate) fn new(
        obtained: Obtained,
        options: &SocketOptions,
        gate: &Gate,
        adopting: Adopting,
        route: Route,
    ) -> io::Result<Self> {
        let Obtained {
            name,
            fd,
            held,
            differences,
            later,
        } = obtained;
        let socket = match held.record.kind {
            SocketKind::Unix => Socket::Unix(UnixListener::from_std(fd.into())?),
            SocketKind::Tcp if later => Socket::Later(fd),
            SocketKind::Tcp => Socket::Tcp(TcpListener::from_std(fd.into())?),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is another kind of socket",
                ));
            }
        };
        Ok(Self {
            name,
            socket,
            entrance: Entrance::new(held, gate),
            differences,
            no_delay: options.connections_have_no_delay(),
            adopting,
            route,
        })
    }

    /// The name under which the next generation finds this socket.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use handover::{Generation, Listener};
    ///
    /// let generation = Generation::start()?;
    /// let listener: Listener = generation.listen("web=127.0.0.1:0").await?;
    /// println!("{} is {}", listener.name(), listener.local_addr()?);
    /// assert!(listener.differences().is_empty());
    /// # Ok(())
    /// # }
    /// ```
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
            Socket::Later(fd) => record::address(fd),
            Socket::Nothing => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// What of [`SocketOptions`] is otherwise than it was asked for. It has been logged as well.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        &self.differences
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

    /// Takes what nobody else will, while this generation drains after an upgrade: `None` once there
    /// is no more, which is at once where the successor has this socket.
    ///
    /// A new release may listen elsewhere, or on fewer addresses. Then this process finishes what it
    /// has: it accepts on through its [probation](crate::GenerationBuilder::probation), should it
    /// have to serve again; then nothing new reaches the socket, and what has reached it still comes
    /// out here. A loop of your own calls this, after the token has begun to drain, until it says
    /// `None`, with a guard in its hand; the adapters of this project do.
    ///
    /// # Errors
    ///
    /// As for [`Accept::poll_accept`].
    ///
    /// # Cancel safety
    ///
    /// A connection is either returned or still in the kernel's queue.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use handover::{Generation, Listener, Graceful};
    ///
    /// /// An accept loop of a program's own, to the end of its drain.
    /// async fn accept(mut listener: Listener, graceful: Graceful) -> std::io::Result<()> {
    ///     let _guard = graceful.guard();
    ///     loop {
    ///         tokio::select! {
    ///             accepted = listener.accept() => println!("a connection from {}", accepted?.1),
    ///             () = graceful.draining() => break,
    ///         }
    ///     }
    ///     while let Some(accepted) = listener.accept_leftover().await {
    ///         println!("one more, from {}", accepted?.1);
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let generation = Generation::start()?;
    /// let listener = generation.listen("127.0.0.1:0").await?;
    /// let graceful = generation.graceful();
    /// let accepting = tokio::spawn(accept(listener, graceful.clone()));
    /// generation.ready().await?;
    /// graceful.drain();
    /// accepting.await??;
    /// assert!(graceful.drained().await.is_complete());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn accept_leftover(&mut self) -> Option<io::Result<(Stream, Address)>> {
        std::future::poll_fn(|cx| self.poll_leftover(cx)).await
    }

    /// Waits until this generation may accept.
    ///
    /// For who takes the bare listener out and has to wait by other means. Cancel safe.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let unix = format!("unix:{}", directory.path().join("app.sock").display());
    /// let generation = handover::Generation::start()?;
    /// let mut tcp = generation.listen("127.0.0.1:0").await?;
    /// let mut local = generation.listen(&unix).await?;
    /// let mut bare = generation.listen("127.0.0.1:0").await?;
    /// generation.ready().await?;
    ///
    /// // For a framework that asks for tokio's listener, or for the standard library's.
    /// tcp.opened().await;
    /// let tcp: tokio::net::TcpListener = tcp.into_tokio_tcp().map_err(|_| "it is of TCP")?;
    /// local.opened().await;
    /// let local: tokio::net::UnixListener = local.into_tokio_unix().map_err(|_| "it is Unix's")?;
    /// bare.opened().await;
    /// let bare = std::net::TcpListener::from(bare.into_fd()?);
    /// println!("{:?}, {:?}, {:?}", tcp.local_addr()?, local.local_addr()?, bare.local_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn opened(&mut self) {
        self.entrance.opened().await;
    }
}

impl Socket {
    fn poll_accept(
        &self,
        entrance: &Entrance,
        no_delay: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Stream, Address)>> {
        if let Some(accepted) = entrance.poll_deaf() {
            let (fd, peer) = ready!(accepted)?;
            return Poll::Ready(Stream::from_fd(fd, &peer).map(|io| (io, peer)));
        }
        match self {
            Self::Tcp(listener) => {
                let (io, peer) = ready!(listener.poll_accept(cx))?;
                // Fails only on a connection that has gone already, which its first read says
                // better.
                let _ = io.set_nodelay(no_delay);
                Poll::Ready(Ok((Stream::Tcp(io), peer.into())))
            }
            Self::Unix(listener) => {
                let (io, peer) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Stream::Unix(io), peer.into())))
            }
            Self::Later(_) | Self::Nothing => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Accept for Listener {
    type Io = Stream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Address)>> {
        ready!(self.entrance.poll_open(cx));
        self.begin()?;
        self.socket.poll_accept(&self.entrance, self.no_delay, cx)
    }

    fn poll_leftover(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<(Stream, Address)>>> {
        let (socket, no_delay) = (&self.socket, self.no_delay);
        let accept =
            |entrance: &Entrance, cx: &mut Context<'_>| socket.poll_accept(entrance, no_delay, cx);
        self.entrance.poll_leftover(cx, accept)
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
        Some(Arc::new(ToSuccessor::new(
            self.name.clone(),
            self.route.clone(),
        )))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
            Socket::Later(fd) => fd.as_fd(),
            Socket::Nothing => self.entrance.as_fd(),
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
