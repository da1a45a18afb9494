//! The axum reference server on axum's own loop, with Handover's listener, layer and token.

use std::process::ExitCode;

use clap::Parser;
use handover::GracefulLayer;
use handover_axum::foreign::{Client, Incoming};
use handover_tests::{
    over_tls,
    reference::{self, Flags, Setup, bare, router},
};

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
    over_tls!(setup, |accept| setup
        .serve_foreign(
            |listener, graceful| Incoming::new(accept(listener), graceful),
            |incoming, graceful, info| {
                let signal = incoming.signal();
                let app = router(info).layer(GracefulLayer::new(graceful));
                let app = app.into_make_service_with_connect_info::<Client>();
                axum::serve(incoming, app).with_graceful_shutdown(signal)
            }
        )
        .await)
}
