//! Connections without a kernel, so that only the server is measured: a client asks by a flag, and
//! is answered by a flush.

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use handover::{Accept, Address};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nhost: localhost\r\nuser-agent: costs\r\naccept: */*\r\n\r\n";

#[derive(Default)]
struct Wire {
    // Of `REQUEST`, still to be read.
    unread: usize,
    has_written: bool,
    answers: u64,
    hung_up: bool,
    server: Option<Waker>,
    client: Option<Waker>,
}

type Shared = Arc<Mutex<Wire>>;

fn lock(wire: &Shared) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The client's end of a connection. Dropped, it has hung up.
pub struct Client(Shared);

impl Client {
    /// Sends a request, and waits for its answer.
    pub async fn request(&mut self) {
        let answers = {
            let mut wire = lock(&self.0);
            wire.unread = REQUEST.len();
            if let Some(server) = wire.server.take() {
                server.wake();
            }
            wire.answers
        };
        poll_fn(|cx| {
            let mut wire = lock(&self.0);
            if wire.answers > answers {
                return Poll::Ready(());
            }
            wire.client = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut wire = lock(&self.0);
        wire.hung_up = true;
        if let Some(server) = wire.server.take() {
            server.wake();
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The server's end of a connection.
pub struct MemoryIo(Shared);

impl MemoryIo {
    fn written(&self, n: usize) -> Poll<io::Result<usize>> {
        lock(&self.0).has_written = true;
        Poll::Ready(Ok(n))
    }
}

impl AsyncRead for MemoryIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = lock(&self.0);
        if wire.unread > 0 {
            let n = wire.unread.min(buf.remaining());
            let at = REQUEST.len() - wire.unread;
            buf.put_slice(&REQUEST[at..at + n]);
            wire.unread -= n;
        } else if !wire.hung_up {
            wire.server = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MemoryIo {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written(buf.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written(bufs.iter().map(|buf| buf.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = lock(&self.0);
        if std::mem::take(&mut wire.has_written) {
            wire.answers += 1;
            if let Some(client) = wire.client.take() {
                client.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for MemoryIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryIo").finish_non_exhaustive()
    }
}

/// Accepts what a [`Connector`] connects.
#[derive(Debug)]
pub struct MemoryListener(UnboundedReceiver<MemoryIo>);

/// Connects to its [`MemoryListener`].
#[derive(Clone, Debug)]
pub struct Connector(UnboundedSender<MemoryIo>);

/// A listener, and what connects to it.
pub fn listen() -> (MemoryListener, Connector) {
    let (connector, listener) = unbounded_channel();
    (MemoryListener(listener), Connector(connector))
}

impl Connector {
    /// A new connection.
    pub fn connect(&self) -> Client {
        let wire = Shared::default();
        // Without a listener nothing is ever answered.
        let _ = self.0.send(MemoryIo(wire.clone()));
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

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
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
