//! The drain of a server with idle HTTP/1 connections: from the call until the last has ended, with
//! 1,000, 10,000 and 100,000 of them.

mod support;

use std::{pin::pin, time::Duration};

use handover_costs::{
    memory_io::MemoryListener,
    rows::drain::{Begun, answer, handover_axum, handover_hyper, router, tracked},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{runtime::Runtime, sync::oneshot};

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
fn drain<F>(n: u64, serve: impl FnOnce(MemoryListener, oneshot::Receiver<()>) -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        let server = Begun::begin(serve, n).await;
        let mut clients = None;
        let took = support::clocked(async { clients = Some(server.drain().await) });
        took.await
    })
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

async fn axum(listener: MemoryListener, told: oneshot::Receiver<()>) {
    let served = axum::serve(listener, router());
    let told = async { drop(told.await) };
    drop(served.with_graceful_shutdown(told).await);
}
