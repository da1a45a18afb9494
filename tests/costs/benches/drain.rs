//! The drain of a server with idle HTTP/1 connections: from the call until the last has ended, with
//! 1,000, 10,000 and 100,000 of them.

mod support;

use std::{pin::pin, time::Duration};

use axum::{Router, routing::get};
use handover::{Graceful, Policy};
use handover_costs::memory_io::{Client, MemoryListener, Protocol, listen};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{runtime::Runtime, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

fn main() {
    let mut criterion = support::criterion();
    for n in [1_000, 10_000, 100_000] {
        support::compare_once(
            &mut criterion,
            &format!("drain of {n} idle connections"),
            &[
                ("hyper/http1 + TaskTracker + CancellationToken", &|| {
                    drain(n, tracked)
                }),
                ("hyper/http1 + hyper-util GracefulShutdown", &|| {
                    drain(n, watched)
                }),
                ("axum/serve.with_graceful_shutdown", &|| drain(n, axum)),
                ("handover-hyper/serve", &|| drain(n, handover_hyper)),
                ("handover-axum/serve", &|| drain(n, handover_axum)),
            ],
        );
    }
    criterion.final_summary();
}

/// Connects, asks once on each connection, and takes the time from the word to drain to the end of
/// the server.
fn drain<F>(n: usize, serve: impl FnOnce(MemoryListener, oneshot::Receiver<()>) -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        let (listener, connector) = listen(Protocol::Http1);
        let (tell, told) = oneshot::channel();
        let server = tokio::spawn(serve(listener, told));
        let mut clients: Vec<Client> = Vec::with_capacity(n);
        for _ in 0..n {
            let mut client = connector.connect();
            client.request().await;
            clients.push(client);
        }
        let took = support::clocked(async {
            tell.send(()).expect("the server serves");
            server.await.expect("the server ends well");
        });
        took.await
    })
}

async fn answer(
    _: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<String>, std::convert::Infallible> {
    Ok(http::Response::new(String::from("Hello, world!")))
}

async fn tracked(mut listener: MemoryListener, told: oneshot::Receiver<()>) {
    let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
    let mut told = pin!(told);
    loop {
        let io = tokio::select! {
            io = listener.accept() => TokioIo::new(io),
            _ = &mut told => break,
        };
        let token = token.clone();
        tracker.spawn(async move {
            let connection = http1::Builder::new().serve_connection(io, service_fn(answer));
            let mut connection = pin!(connection);
            tokio::select! {
                served = &mut connection => return drop(served),
                () = token.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            drop(connection.await);
        });
    }
    token.cancel();
    tracker.close();
    tracker.wait().await;
}

async fn watched(mut listener: MemoryListener, told: oneshot::Receiver<()>) {
    let graceful = GracefulShutdown::new();
    let mut told = pin!(told);
    loop {
        let io = tokio::select! {
            io = listener.accept() => TokioIo::new(io),
            _ = &mut told => break,
        };
        let connection = http1::Builder::new().serve_connection(io, service_fn(answer));
        tokio::spawn(graceful.watch(connection));
    }
    graceful.shutdown().await;
}

fn router() -> Router {
    Router::new().route("/", get(async || "Hello, world!"))
}

async fn axum(listener: MemoryListener, told: oneshot::Receiver<()>) {
    let served = axum::serve(listener, router());
    let told = async { drop(told.await) };
    drop(served.with_graceful_shutdown(told).await);
}

// Idle connections are closed as soon as the drain begins, as those of the others are.
fn at_once(told: oneshot::Receiver<()>) -> Graceful {
    let graceful = Graceful::with_policy(Policy::default().with_announce(Duration::ZERO));
    let draining = graceful.clone();
    tokio::spawn(async move {
        drop(told.await);
        draining.drain();
    });
    graceful
}

async fn handover_hyper(listener: MemoryListener, told: oneshot::Receiver<()>) {
    let hello = tower::service_fn(async |_| {
        Ok::<_, std::convert::Infallible>(http::Response::new(String::from("Hello, world!")))
    });
    drop(
        handover_hyper::serve(listener, hello)
            .with_graceful(at_once(told))
            .await,
    );
}

async fn handover_axum(listener: MemoryListener, told: oneshot::Receiver<()>) {
    drop(
        handover_axum::serve(listener, router())
            .with_graceful(at_once(told))
            .await,
    );
}
