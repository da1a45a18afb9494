use std::{convert::Infallible, fmt, sync::Arc};

use axum::{Router, extract::connect_info::Connected, routing::get, serve::IncomingStream};
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
use tokio::runtime::{self, Runtime};
use tower::{Layer, util::MapResponse};

use crate::{
    Row, Run,
    memory_io::{Connector, MemoryListener, listen},
};

/// One HTTP/1 request on an open connection, answered with "Hello, world!". The first row is bare
/// hyper; all have the client, the task of the connection and the runtime in common.
pub fn request() -> Vec<Row> {
    servers().into_iter().map(row).collect()
}

/// A server that can be started.
pub struct Server {
    name: &'static str,
    start: Arc<dyn Fn(&Runtime) -> Connector>,
}

impl Server {
    fn new<F>(name: &'static str, serve: impl Fn(MemoryListener) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let start = move |runtime: &Runtime| {
            let (listener, connector) = listen();
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

/// All servers, bare hyper first.
pub fn servers() -> Vec<Server> {
    #[allow(unused_mut, reason = "without the peers there are no more")]
    let mut rows = vec![
        Server::new("hyper/http1", |mut listener| async move {
            loop {
                let io = TokioIo::new(listener.accept().await);
                let hello = service_fn(async |_: Request<Body>| hello());
                tokio::spawn(http1::Builder::new().serve_connection(io, hello));
            }
        }),
        Server::new("handover-hyper/http1_only", |listener| async move {
            let served = handover_hyper::serve(listener, tower::service_fn(async |_| hello()));
            drop(served.with_graceful(Graceful::new()).http1_only().await);
        }),
        Server::new(
            "handover-hyper/http1_only.without_extensions",
            |listener| async move {
                let served = handover_hyper::serve(listener, tower::service_fn(async |_| hello()));
                let served = served.http1_only().without_extensions();
                drop(served.with_graceful(Graceful::new()).await);
            },
        ),
        Server::new("handover-hyper/serve", |listener| async move {
            let served = handover_hyper::serve(listener, tower::service_fn(async |_| hello()));
            drop(served.with_graceful(Graceful::new()).await);
        }),
        Server::new(
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
        Server::new("hyper-util/auto + Router", |mut listener| async move {
            loop {
                let io = TokioIo::new(listener.accept().await);
                let router = TowerToHyperService::new(router());
                tokio::spawn(async move {
                    let auto = auto::Builder::new(TokioExecutor::new());
                    drop(auto.serve_connection_with_upgrades(io, router).await);
                });
            }
        }),
        Server::new("axum/serve", |listener| async move {
            drop(axum::serve(listener, router()).await);
        }),
        Server::new("axum/serve + ConnectInfo", |listener| async move {
            let app = router().into_make_service_with_connect_info::<Nowhere>();
            drop(axum::serve(listener, app).await);
        }),
        Server::new("axum/serve.with_graceful_shutdown", |listener| async move {
            let served = axum::serve(listener, router());
            drop(served.with_graceful_shutdown(std::future::pending()).await);
        }),
        Server::new("handover-axum/serve", |listener| async move {
            let served = handover_axum::serve(listener, router());
            drop(served.with_graceful(Graceful::new()).await);
        }),
        Server::new(
            "handover-axum/serve.without_extensions",
            |listener| async move {
                let served = handover_axum::serve(listener, router()).without_extensions();
                drop(served.with_graceful(Graceful::new()).await);
            },
        ),
        Server::new(
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
        Server::new(
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
fn peers() -> Vec<Server> {
    use hyper_util::server::graceful::GracefulShutdown;
    use swansong::Swansong;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};
    use tower::make::Shared;
    use tower_http::metrics::InFlightRequestsLayer;

    vec![
        Server::new(
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
        Server::new(
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
        Server::new(
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
        Server::new(
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
        Server::new("hyper/http1 + swansong", |mut listener| async move {
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
        Server::new(
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

/// The client of a connection without a kernel.
#[derive(Clone, Debug)]
struct Nowhere;

impl Connected<IncomingStream<'_, MemoryListener>> for Nowhere {
    fn connect_info(_: IncomingStream<'_, MemoryListener>) -> Self {
        Self
    }
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

fn row(server: Server) -> Row {
    Row::new(server.name, move |threads| {
        let run = || -> Run {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            let mut client = Some(server.start(&runtime).connect());
            Box::new(move |times| {
                let mut asking = client.take().expect("given back each time");
                // A task among others, as the server's are: it never comes to the runtime's looking
                // for events after each request, which costs more where there is a timer.
                let asked = runtime.spawn(async move {
                    for _ in 0..times {
                        asking.request().await;
                    }
                    asking
                });
                client = runtime.block_on(asked).ok();
            })
        };
        (0..threads).map(|_| run()).collect()
    })
}
