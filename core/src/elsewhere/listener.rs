//! A listening socket of a generation where there is no Unix.

use std::{
    fmt,
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use tokio::net::{TcpListener, TcpStream};

use crate::{
    accept::{Accept, Address},
    sockets::gate::Pass,
};

/// A connection of a [`Listener`].
pub type Stream = TcpStream;

/// A TCP listener. It accepts from [`ready`](super::Generation::ready) on.
pub struct Listener {
    name: String,
    listener: TcpListener,
    pass: Pass,
}

impl Listener {
    pub(super) fn new(name: String, listener: TcpListener, pass: Pass) -> Self {
        Self {
            name,
            listener,
            pass,
        }
    }

    /// The name of the socket.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens, with the real port where port 0 was asked for.
    ///
    /// # Errors
    ///
    /// What the system reports.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.listener.local_addr().map(Address::Tcp)
    }

    /// Takes the next connection.
    ///
    /// # Errors
    ///
    /// What the system reports.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, no connection has been taken.
    pub async fn accept(&mut self) -> io::Result<(Stream, Address)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Waits until the generation serves.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn opened(&mut self) {
        self.pass.opened().await;
    }
}

impl Accept for Listener {
    type Io = Stream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Address)>> {
        ready!(self.pass.poll_open(cx));
        Accept::poll_accept(&mut self.listener, cx)
    }

    fn local_addr(&self) -> io::Result<Address> {
        Self::local_addr(self)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("name", &self.name)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
