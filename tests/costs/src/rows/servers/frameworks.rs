use handover::{Graceful, GracefulLayer};
use handover_axum::foreign::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tower::{
    Layer,
    util::{MapResponse, service_fn},
};

use super::{
    Server,
    app::{Nowhere, answer, plain, router},
};
use crate::memory_io::Protocol;

/// Servers that look what their clients speak.
pub(super) fn frameworks(protocol: Protocol) -> Vec<Server> {
    let mut rows = vec![
        Server::new(protocol, "handover-hyper/serve", |listener| async move {
            let served = handover_hyper::serve(listener, service_fn(answer));
            drop(served.with_graceful(Graceful::new()).await);
        }),
        Server::new(
            protocol,
            "handover-hyper/serve + GracefulLayer",
            |listener| async move {
                let graceful = Graceful::new();
                let layered = GracefulLayer::new(graceful.clone()).layer(service_fn(answer));
                let served = handover_hyper::serve(listener, layered);
                drop(served.with_graceful(graceful).await);
            },
        ),
        Server::new(
            protocol,
            "hyper-util/auto + Router",
            |mut listener| async move {
                loop {
                    let io = TokioIo::new(listener.accept().await);
                    let router = TowerToHyperService::new(router());
                    tokio::spawn(async move {
                        let auto = auto::Builder::new(TokioExecutor::new());
                        drop(auto.serve_connection_with_upgrades(io, router).await);
                    });
                }
            },
        ),
    ];
    rows.extend(on_axum(protocol));
    #[cfg(feature = "peers")]
    rows.extend(peers(protocol));
    rows
}

fn on_axum(protocol: Protocol) -> Vec<Server> {
    vec![
        Server::new(protocol, "axum/serve", |listener| async move {
            drop(axum::serve(listener, router()).await);
        }),
        Server::new(
            protocol,
            "axum/serve + ConnectInfo",
            |listener| async move {
                let app = router().into_make_service_with_connect_info::<Nowhere>();
                drop(axum::serve(listener, app).await);
            },
        ),
        Server::new(
            protocol,
            "axum/serve.with_graceful_shutdown",
            |listener| async move {
                let served = axum::serve(listener, router());
                drop(served.with_graceful_shutdown(std::future::pending()).await);
            },
        ),
        Server::new(protocol, "handover-axum/serve", |listener| async move {
            let served = handover_axum::serve(listener, router());
            drop(served.with_graceful(Graceful::new()).await);
        }),
        Server::new(
            protocol,
            "handover-axum/serve.without_extensions",
            |listener| async move {
                let served = handover_axum::serve(listener, router()).without_extensions();
                drop(served.with_graceful(Graceful::new()).await);
            },
        ),
        Server::new(
            protocol,
            "handover-axum/serve + GracefulLayer",
            |listener| async move {
                let graceful = Graceful::new();
                let layered = GracefulLayer::new(graceful.clone()).layer(router());
                let served = handover_axum::serve(listener, MapResponse::new(layered, plain));
                drop(served.with_graceful(graceful).await);
            },
        ),
        Server::new(
            protocol,
            "handover-axum/foreign + GracefulLayer",
            |listener| async move {
                let graceful = Graceful::new();
                let incoming = Incoming::tcp(listener, &graceful);
                let signal = incoming.signal();
                let layered = router().layer(GracefulLayer::new(graceful));
                let served = axum::serve(incoming, layered);
                drop(served.with_graceful_shutdown(signal).await);
            },
        ),
    ]
}

#[cfg(feature = "peers")]
fn peers(protocol: Protocol) -> Vec<Server> {
    use tower::make::Shared;
    use tower_http::metrics::InFlightRequestsLayer;

    vec![
        Server::new(
            protocol,
            "axum/serve.with_graceful_shutdown + InFlightRequests",
            |listener| async move {
                let (layer, _counter) = InFlightRequestsLayer::pair();
                let layered = MapResponse::new(layer.layer(router()), plain);
                let served = axum::serve(listener, Shared::new(layered));
                drop(served.with_graceful_shutdown(std::future::pending()).await);
            },
        ),
        super::via_axum_server::server(protocol),
    ]
}
