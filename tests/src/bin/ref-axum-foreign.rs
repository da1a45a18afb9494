//! The axum reference server on axum's own loop, with Handover's listener, layer and token.

use std::process::ExitCode;

use clap::Parser;
use handover::GracefulLayer;
use handover_axum::foreign::{Client, Incoming};
use handover_tests::reference::{self, Flags, Setup, bare, router};
use tokio::task::JoinSet;

/// Serves the reference routes with `axum::serve`.
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> anyhow::Result<ExitCode> {
    reference::start(&Program::parse().flags, run, bare::axum)
}

async fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let setup = Setup::start(flags).await?;
    let (sockets, fault) = (setup.sockets()?, setup.fault());
    let Setup {
        generation,
        listeners,
        info,
        ..
    } = setup;
    let graceful = generation.graceful();
    // Made before this process is ready, so that a drain waits for them from the first moment.
    let incoming: Vec<_> = listeners
        .into_iter()
        .map(|listener| Incoming::new(listener, &graceful))
        .collect();
    Setup::ready(&generation, info, sockets).await?;
    if let Some(fault) = fault {
        fault.after_ready().await;
    }
    let mut servers = JoinSet::new();
    for incoming in incoming {
        let signal = incoming.signal();
        let app = router(info).layer(GracefulLayer::new(graceful.clone()));
        let app = app.into_make_service_with_connect_info::<Client>();
        let server = axum::serve(incoming, app).with_graceful_shutdown(signal);
        servers.spawn(server.into_future());
    }
    while let Some(served) = servers.join_next().await {
        served??;
    }
    let report = graceful.drained().await;
    Ok(reference::finish(&generation, &report).await)
}
