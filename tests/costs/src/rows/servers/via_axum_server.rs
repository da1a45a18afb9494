//! axum-server, over connections without a kernel.

use std::io;

use axum_server::{AddrListener, Address, Handle};
use tokio::sync::Mutex;

use super::{Server, app::router};
use crate::memory_io::{MemoryIo, MemoryListener, Protocol};

/// With the handle by which it drains.
pub(super) fn server(protocol: Protocol) -> Server {
    Server::new(protocol, "axum-server + Handle", |listener| async move {
        let server = axum_server::Server::<Nowhere>::from_listener(Listener(Mutex::new(listener)));
        let served = server.handle(Handle::new());
        drop(served.serve(router().into_make_service()).await);
    })
}

#[derive(Clone, Debug)]
struct Nowhere;

#[derive(Debug)]
struct Listener(Mutex<MemoryListener>);

impl Address for Nowhere {
    type Stream = MemoryIo;
    type Listener = Listener;
}

impl AddrListener<MemoryIo, Nowhere> for Listener {
    async fn bind_to(_: Nowhere) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn accept_stream(&self) -> io::Result<(MemoryIo, Nowhere)> {
        Ok((self.0.lock().await.accept().await, Nowhere))
    }

    fn get_local_addr(&self) -> io::Result<Nowhere> {
        Ok(Nowhere)
    }
}
