//! A listener without a kernel, as each of the servers wants it.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use handover::{Accept, Address};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Client, MemoryIo, Protocol, Shared, nowhere};

/// Accepts what a [`Connector`] connects.
#[derive(Debug)]
pub struct MemoryListener(UnboundedReceiver<MemoryIo>);

/// Connects to its [`MemoryListener`].
#[derive(Clone, Debug)]
pub struct Connector {
    protocol: Protocol,
    listener: UnboundedSender<MemoryIo>,
}

/// A listener, and what connects to it, to speak this.
pub fn listen(protocol: Protocol) -> (MemoryListener, Connector) {
    let (connector, listener) = unbounded_channel();
    let connector = Connector {
        protocol,
        listener: connector,
    };
    (MemoryListener(listener), connector)
}

impl Connector {
    /// A new connection.
    pub fn connect(&self) -> Client {
        let wire = Shared::new(self.protocol);
        // Without a listener nothing is ever answered.
        let _ = self.listener.send(MemoryIo(wire.clone()));
        Client(wire)
    }
}

impl MemoryListener {
    /// The next connection.
    pub async fn accept(&mut self) -> MemoryIo {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<MemoryIo> {
        match ready!(self.0.poll_recv(cx)) {
            Some(io) => Poll::Ready(io),
            None => Poll::Pending,
        }
    }
}

impl Accept for MemoryListener {
    type Io = MemoryIo;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(MemoryIo, Address)>> {
        self.poll(cx).map(|io| Ok((io, Address::Tcp(nowhere()))))
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Tcp(nowhere()))
    }
}

impl axum::serve::Listener for MemoryListener {
    type Io = MemoryIo;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (MemoryIo, SocketAddr) {
        (self.accept().await, nowhere())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(nowhere())
    }
}

// As tonic takes connections.
impl Stream for MemoryListener {
    type Item = Result<MemoryIo, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx).map(|io| Some(Ok(io)))
    }
}
