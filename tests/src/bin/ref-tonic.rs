//! The gRPC reference server, on Handover's own loop.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use handover_tests::{
    over_tls,
    reference::{self, Flags, Setup, routes, run_bare_tonic},
};

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
    over_tls!(setup, |accept| setup
        .serve(|listener, graceful, info| {
            let serve = handover_tonic::serve(accept(listener), routes(info))
                .with_graceful(graceful)
                .move_connections(!flags.no_move);
            match age {
                Some(age) => serve.max_connection_age(age),
                None => serve,
            }
        })
        .await)
}
