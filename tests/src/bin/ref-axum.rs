//! The axum reference server, on Handover's own loop.

use std::process::ExitCode;

use clap::Parser;
use handover_tests::{
    over_tls,
    reference::{self, Flags, Setup, bare, router},
};

/// Serves the reference routes with `handover_axum::serve`.
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
    over_tls!(setup, |accept| setup
        .serve(|listener, graceful, info| {
            handover_axum::serve(accept(listener), router(info))
                .with_graceful(graceful)
                .move_connections(!flags.no_move)
        })
        .await)
}
