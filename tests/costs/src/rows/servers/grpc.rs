use std::future::pending;

use handover::Graceful;
use hyper::server::conn::http2;
use hyper_util::{rt::TokioExecutor, service::TowerToHyperService};
use tonic::transport;

use super::{
    Server,
    app::routes,
    bare::{Connection, Io, alone},
};
use crate::memory_io::{MemoryListener, Protocol};

/// Servers of gRPC, tonic's routes on bare hyper first.
pub fn grpc_servers() -> Vec<Server> {
    #[allow(unused_mut, reason = "without the peers there are no more")]
    let mut rows = vec![
        server("hyper/http2 + tonic Routes", |listener| {
            alone(listener, grpc)
        }),
        server("tonic/serve_with_incoming", |listener| async move {
            let served = transport::Server::builder().add_routes(routes());
            drop(served.serve_with_incoming(listener).await);
        }),
        server(
            "tonic/serve_with_incoming_shutdown",
            |listener| async move {
                let served = transport::Server::builder().add_routes(routes());
                let served = served.serve_with_incoming_shutdown(listener, pending());
                drop(served.await);
            },
        ),
        server("handover-tonic/serve", |listener| async move {
            let served = handover_tonic::serve(listener, routes());
            drop(served.with_graceful(Graceful::new()).await);
        }),
        server(
            "handover-tonic/serve.without_extensions",
            |listener| async move {
                let served = handover_tonic::serve(listener, routes()).without_extensions();
                drop(served.with_graceful(Graceful::new()).await);
            },
        ),
    ];
    #[cfg(feature = "peers")]
    rows.push(server(
        "hyper/http2 + tonic Routes + GracefulShutdown",
        |listener| super::bare::watched(listener, grpc),
    ));
    rows
}

fn server<F>(name: &'static str, serve: impl Fn(MemoryListener) -> F + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    Server::new(Protocol::Grpc, name, serve)
}

fn grpc(io: Io) -> impl Connection {
    let routes = TowerToHyperService::new(routes());
    http2::Builder::new(TokioExecutor::new()).serve_connection(io, routes)
}
