//! Connections without a kernel, so that only the server is measured: a client asks by putting bytes
//! where the server reads, and looks at what is written for no more than the end of the answer.

mod http2;
mod listener;
mod wire;

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, TcpConnectInfo};

use self::wire::Shared;
pub use self::{
    listener::{Connector, MemoryListener, listen},
    wire::Protocol,
};

/// The client's end of a connection. Dropped, it has hung up.
pub struct Client(Shared);

impl Client {
    /// Sends a request, and waits for its answer.
    pub async fn request(&mut self) {
        let answers = self.0.lock().ask();
        poll_fn(|cx| self.0.lock().poll_answered(cx, answers)).await;
    }

    /// Sends a request, and returns what the server has written since the last one, up to the end of
    /// its answer.
    pub async fn request_and_hear(&mut self) -> Vec<u8> {
        self.0.lock().listen_in();
        self.request().await;
        self.0.lock().heard()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.lock().hang_up();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The server's end of a connection.
pub struct MemoryIo(Shared);

impl AsyncRead for MemoryIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.lock().poll_read(cx, buf).map(Ok)
    }
}

impl AsyncWrite for MemoryIo {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().write(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock();
        bufs.iter().for_each(|buf| wire.write(buf));
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Connected for MemoryIo {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: Some(nowhere()),
            remote_addr: Some(nowhere()),
        }
    }
}

impl fmt::Debug for MemoryIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryIo").finish_non_exhaustive()
    }
}

/// The address of either end.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}
