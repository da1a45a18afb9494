use std::convert::Infallible;

use axum::{Router, routing::get};
use bytes::Bytes;
use handover::{Graceful, GracefulLayer};
use handover_axum::foreign::Incoming;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming as Body, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::runtime;
use tower::{Layer, util::MapResponse};

use crate::{
    Row, Run,
    memory_io::{MemoryListener, listen},
};

/// One HTTP/1 request on an open connection, answered with "Hello, world!". The first row is bare
/// hyper; all have the client, the task of the connection and the runtime in common.
pub fn request() -> Vec<Row> {
    #[allow(unused_mut, reason = "without the peers there are no more")]
    let mut rows = vec![
        row("hyper/http1", |mut listener| async move {
            loop {
                let io = TokioIo::new(listener.accept().await);
                let hello = service_fn(async |_: Request<Body>| hello());
                tokio::spawn(http1::Builder::new().serve_connection(io, hello));
            }
        }),
        row("handover-hyper/http1_only", |listener| async move {
            let served = handover_hyper::serve(listener, tower::service_fn(async |_| hello()));
            drop(served.with_graceful(Graceful::new()).http1_only().await);
        }),
        row("handover-hyper/serve", |listener| async move {
            let served = handover_hyper::serve(listener, tower::service_fn(async |_| hello()));
            drop(served.with_graceful(Graceful::new()).await);
        }),
        row(
            "handover-hyper/serve + GracefulLayer",
            |listener| async move {
                let graceful = Graceful::new();
                let hello = tower::service_fn(async |_| hello());
                let layered = GracefulLayer::new(graceful.clone()).layer(hello);
                drop(
                    handover_hyper::serve(listener, layered)
                        .with_graceful(graceful)
                        .await,
                );
            },
        ),
        row("hyper-util/auto + Router", |mut listener| async move {
            loop {
                let io = TokioIo::new(listener.accept().await);
                let router = TowerToHyperService::new(router());
                tokio::spawn(async move {
                    let auto = auto::Builder::new(TokioExecutor::new());
                    drop(auto.serve_connection_with_upgrades(io, router).await);
                });
            }
        }),
        row("axum/serve", |listener| async move {
            drop(axum::serve(listener, router()).await);
        }),
        row("axum/serve.with_graceful_shutdown", |listener| async move {
            let served = axum::serve(listener, router());
            drop(served.with_graceful_shutdown(std::future::pending()).await);
        }),
        row("handover-axum/serve", |listener| async move {
            let served = handover_axum::serve(listener, router());
            drop(served.with_graceful(Graceful::new()).await);
        }),
        row(
            "handover-axum/serve + GracefulLayer",
            |listener| async move {
                let graceful = Graceful::new();
                let layered = GracefulLayer::new(graceful.clone()).layer(router());
                let layered = MapResponse::new(layered, plain);
                drop(
                    handover_axum::serve(listener, layered)
                        .with_graceful(graceful)
                        .await,
                );
            },
        ),
        row(
            "handover-axum/foreign + GracefulLayer",
            |listener| async move {
                let graceful = Graceful::new();
                let incoming = Incoming::tcp(listener, &graceful);
                let signal = incoming.signal();
                let layered = router().layer(GracefulLayer::new(graceful));
                drop(
                    axum::serve(incoming, layered)
                        .with_graceful_shutdown(signal)
                        .await,
                );
            },
        ),
    ];
    #[cfg(feature = "peers")]
    rows.extend(peers());
    rows
}

#[cfg(feature = "peers")]
fn peers() -> Vec<Row> {
    use hyper_util::server::graceful::GracefulShutdown;
    use swansong::Swansong;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};
    use tower::make::Shared;
    use tower_http::metrics::InFlightRequestsLayer;

    vec![
        row(
            "hyper/http1 + InFlightRequests",
            |mut listener| async move {
                let (layer, _counter) = InFlightRequestsLayer::pair();
                loop {
                    let io = TokioIo::new(listener.accept().await);
                    let hello = layer.layer(tower::service_fn(async |_: Request<Body>| hello()));
                    let hello = TowerToHyperService::new(hello);
                    tokio::spawn(http1::Builder::new().serve_connection(io, hello));
                }
            },
        ),
        row(
            "hyper/http1 + hyper-util GracefulShutdown",
            |mut listener| async move {
                let graceful = GracefulShutdown::new();
                loop {
                    let io = TokioIo::new(listener.accept().await);
                    let hello = service_fn(async |_: Request<Body>| hello());
                    let connection = http1::Builder::new().serve_connection(io, hello);
                    tokio::spawn(graceful.watch(connection));
                }
            },
        ),
        row(
            "hyper/http1 + GracefulShutdown + InFlightRequests",
            |mut listener| async move {
                let graceful = GracefulShutdown::new();
                let (layer, _counter) = InFlightRequestsLayer::pair();
                loop {
                    let io = TokioIo::new(listener.accept().await);
                    let hello = layer.layer(tower::service_fn(async |_: Request<Body>| hello()));
                    let hello = TowerToHyperService::new(hello);
                    let connection = http1::Builder::new().serve_connection(io, hello);
                    tokio::spawn(graceful.watch(connection));
                }
            },
        ),
        row(
            "hyper/http1 + TaskTracker + CancellationToken",
            |mut listener| async move {
                let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
                loop {
                    let io = TokioIo::new(listener.accept().await);
                    let token = token.clone();
                    tracker.spawn(async move {
                        let hello = service_fn(async |_: Request<Body>| hello());
                        let connection = http1::Builder::new().serve_connection(io, hello);
                        let mut connection = std::pin::pin!(connection);
                        tokio::select! {
                            served = &mut connection => return drop(served),
                            () = token.cancelled() => connection.as_mut().graceful_shutdown(),
                        }
                        drop(connection.await);
                    });
                }
            },
        ),
        row("hyper/http1 + swansong", |mut listener| async move {
            let swansong = Swansong::new();
            loop {
                let io = TokioIo::new(listener.accept().await);
                let (guard, told) = (swansong.guard(), swansong.shutting_down());
                tokio::spawn(async move {
                    let _guard = guard;
                    let hello = service_fn(async |_: Request<Body>| hello());
                    let connection = http1::Builder::new().serve_connection(io, hello);
                    let mut connection = std::pin::pin!(connection);
                    tokio::select! {
                        served = &mut connection => return drop(served),
                        () = told => connection.as_mut().graceful_shutdown(),
                    }
                    drop(connection.await);
                });
            }
        }),
        row(
            "axum/serve.with_graceful_shutdown + InFlightRequests",
            |listener| async move {
                let (layer, _counter) = InFlightRequestsLayer::pair();
                let layered = layer.layer(router());
                let layered = MapResponse::new(layered, plain);
                let served = axum::serve(listener, Shared::new(layered));
                drop(served.with_graceful_shutdown(std::future::pending()).await);
            },
        ),
    ]
}

fn hello() -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(
        b"Hello, world!",
    ))))
}

fn router() -> Router {
    Router::new().route("/", get(async || "Hello, world!"))
}

/// The answer as axum's loop wants it.
fn plain<B>(answer: Response<B>) -> Response<axum::body::Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    answer.map(axum::body::Body::new)
}

fn row<F>(name: &'static str, serve: impl Fn(MemoryListener) -> F + 'static) -> Row
where
    F: Future<Output = ()> + Send + 'static,
{
    Row::new(name, move |threads| {
        let server = || -> Run {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            let (listener, connector) = listen();
            runtime.spawn(serve(listener));
            let mut client = connector.connect();
            Box::new(move |times| {
                runtime.block_on(async {
                    for _ in 0..times {
                        client.request().await;
                    }
                });
            })
        };
        (0..threads).map(|_| server()).collect()
    })
}
