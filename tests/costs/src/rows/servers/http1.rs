use hyper::{server::conn::http1, service::service_fn};

use super::{
    Server,
    app::answer,
    bare::{Connection, Io, alone},
    frameworks::frameworks,
    ours::ours,
};
use crate::memory_io::{MemoryListener, Protocol};

/// Servers of HTTP/1, bare hyper first.
pub fn http1_servers() -> Vec<Server> {
    let mut rows = vec![server("hyper/http1", |listener| alone(listener, http1))];
    rows.extend(ours(
        Protocol::Http1,
        [
            "handover-hyper/http1_only",
            "handover-hyper/http1_only.without_extensions",
        ],
    ));
    rows.extend(frameworks(Protocol::Http1));
    #[cfg(feature = "peers")]
    rows.extend(peers());
    rows
}

fn server<F>(name: &'static str, serve: impl Fn(MemoryListener) -> F + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    Server::new(Protocol::Http1, name, serve)
}

fn http1(io: Io) -> impl Connection {
    http1::Builder::new().serve_connection(io, service_fn(answer))
}

#[cfg(feature = "peers")]
fn peers() -> Vec<Server> {
    use hyper_util::service::TowerToHyperService;
    use tower::{Layer, util::service_fn as tower_fn};
    use tower_http::metrics::InFlightRequestsLayer;

    use super::bare::{guarded, tracked, watched};

    let counted = || {
        let (layer, _counter) = InFlightRequestsLayer::pair();
        move |io: Io| {
            let service = TowerToHyperService::new(layer.layer(tower_fn(answer)));
            http1::Builder::new().serve_connection(io, service)
        }
    };
    vec![
        server("hyper/http1 + InFlightRequests", move |listener| {
            alone(listener, counted())
        }),
        server("hyper/http1 + hyper-util GracefulShutdown", |listener| {
            watched(listener, http1)
        }),
        server(
            "hyper/http1 + GracefulShutdown + InFlightRequests",
            move |listener| watched(listener, counted()),
        ),
        server(
            "hyper/http1 + TaskTracker + CancellationToken",
            |listener| tracked(listener, http1),
        ),
        server("hyper/http1 + swansong", |listener| {
            guarded(listener, http1)
        }),
    ]
}
