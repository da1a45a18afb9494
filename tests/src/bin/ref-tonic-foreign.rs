//! The gRPC reference server on tonic's own loop, with Handover's listener, layer and token.

use std::process::ExitCode;

use clap::Parser;
use handover_tests::{
    over_tls,
    reference::{self, Flags, Setup, routes, run_bare_tonic},
};
use handover_tonic::{DrainLayer, foreign::Incoming};
use tonic::transport::Server;

/// Serves the reference services with tonic's `Server`.
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
        .serve_foreign(
            |listener, graceful| Incoming::new(accept(listener), graceful),
            |incoming, graceful, info| {
                let signal = incoming.signal();
                Server::builder()
                    .layer(DrainLayer::new(graceful))
                    .add_routes(routes(info))
                    .serve_with_incoming_shutdown(incoming, signal)
            }
        )
        .await)
}
