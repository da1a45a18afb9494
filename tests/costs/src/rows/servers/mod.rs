//! The servers that requests are sent to.

mod app;
mod bare;
mod frameworks;
mod grpc;
mod http1;
mod http2;
mod ours;
#[cfg(feature = "peers")]
mod via_axum_server;

use std::{fmt, sync::Arc};

use tokio::runtime::Runtime;

pub use self::{grpc::grpc_servers, http1::http1_servers, http2::http2_servers};
use crate::memory_io::{Connector, MemoryListener, Protocol, listen};

/// A server that can be started.
pub struct Server {
    name: &'static str,
    start: Arc<dyn Fn(&Runtime) -> Connector>,
}

impl Server {
    /// A server whose clients speak this.
    fn new<F>(
        protocol: Protocol,
        name: &'static str,
        serve: impl Fn(MemoryListener) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let start = move |runtime: &Runtime| {
            let (listener, connector) = listen(protocol);
            runtime.spawn(serve(listener));
            connector
        };
        Self {
            name,
            start: Arc::new(start),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Starts it on this runtime, and returns what connects to it.
    pub fn start(&self, runtime: &Runtime) -> Connector {
        (self.start)(runtime)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.name).finish()
    }
}
