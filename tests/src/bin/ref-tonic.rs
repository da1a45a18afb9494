//! The gRPC reference server, on Handover's own loop.

use std::process::ExitCode;

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
}

fn main() -> anyhow::Result<ExitCode> {
    reference::start(&Program::parse().flags, run, run_bare_tonic)
}

async fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let setup = Setup::start(flags).await?;
    over_tls!(setup, |accept| setup
        .serve(|listener, graceful, info| {
            handover_tonic::serve(accept(listener), routes(info))
                .with_graceful(graceful)
                .move_connections(!flags.no_move)
        })
        .await)
}
