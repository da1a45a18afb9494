use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::TokioExecutor;

use super::{
    Server,
    app::answer,
    bare::{Connection, Io, alone},
    frameworks::frameworks,
    ours::ours,
};
use crate::memory_io::{MemoryListener, Protocol};

/// Servers of HTTP/2, bare hyper first.
pub fn http2_servers() -> Vec<Server> {
    let mut rows = vec![server("hyper/http2", |listener| alone(listener, http2))];
    rows.extend(ours(
        Protocol::Http2,
        [
            "handover-hyper/http2_only",
            "handover-hyper/http2_only.without_extensions",
        ],
    ));
    rows.extend(frameworks(Protocol::Http2));
    #[cfg(feature = "peers")]
    rows.extend(peers());
    rows
}

fn server<F>(name: &'static str, serve: impl Fn(MemoryListener) -> F + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    Server::new(Protocol::Http2, name, serve)
}

fn http2(io: Io) -> impl Connection {
    http2::Builder::new(TokioExecutor::new()).serve_connection(io, service_fn(answer))
}

#[cfg(feature = "peers")]
fn peers() -> Vec<Server> {
    use super::bare::{guarded, tracked, watched};

    vec![
        server("hyper/http2 + hyper-util GracefulShutdown", |listener| {
            watched(listener, http2)
        }),
        server(
            "hyper/http2 + TaskTracker + CancellationToken",
            |listener| tracked(listener, http2),
        ),
        server("hyper/http2 + swansong", |listener| {
            guarded(listener, http2)
        }),
    ]
}
