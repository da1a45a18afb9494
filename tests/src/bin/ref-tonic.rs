//! The gRPC reference server, on Handover's own loop.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use handover_tests::reference::{self, Flags, Setup, routes, run_bare_tonic};
use tokio::task::JoinSet;

/// Serves the reference services with `handover_tonic::serve`.
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
    /// How many seconds old a connection may get, give or take a tenth
    #[arg(long, value_name = "SECS")]
    max_connection_age: Option<f64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let Program {
        flags,
        max_connection_age,
    } = Program::parse();
    let age = max_connection_age
        .map(Duration::try_from_secs_f64)
        .transpose()?;
    reference::start(&flags, async |flags| run(flags, age).await, run_bare_tonic)
}

async fn run(flags: &Flags, age: Option<Duration>) -> anyhow::Result<ExitCode> {
    let setup = Setup::start(flags).await?;
    let (sockets, fault) = (setup.sockets()?, setup.fault());
    let Setup {
        generation,
        listeners,
        info,
        ..
    } = setup;
    // Made before this process is ready, so that a drain waits for them from the first moment.
    let servers: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let serve = handover_tonic::serve(listener, routes(info))
                .with_graceful(generation.graceful())
                .move_connections(!flags.no_move);
            match age {
                Some(age) => serve.max_connection_age(age),
                None => serve,
            }
        })
        .collect();
    Setup::ready(&generation, info, sockets).await?;
    if let Some(fault) = fault {
        fault.after_ready().await;
    }
    let mut servers: JoinSet<_> = servers.into_iter().map(IntoFuture::into_future).collect();
    let mut report = None;
    while let Some(served) = servers.join_next().await {
        report = Some(served??);
    }
    let report = report.context("nothing to listen on")?;
    Ok(reference::finish(&generation, &report).await)
}
