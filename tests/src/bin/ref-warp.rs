//! The warp reference server, on Handover's own loop.

use std::process::ExitCode;

use clap::Parser;
use handover_tests::{
    over_tls,
    reference::{self, Flags, Setup, bare, filter},
};

/// Serves the reference routes with `handover_warp::serve`.
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> anyhow::Result<ExitCode> {
    reference::start(&Program::parse().flags, run, bare::warp)
}

async fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let setup = Setup::start(flags).await?;
    over_tls!(setup, |accept| setup
        .serve(|listener, graceful, info| {
            handover_warp::serve(filter(info))
                .incoming(accept(listener))
                .with_graceful(graceful)
                .move_connections(!flags.no_move)
        })
        .await)
}
