//! The actix-web reference server, on Handover's own loop.

use std::process::ExitCode;

use clap::Parser;
use handover_tests::{
    over_tls,
    reference::{self, Flags, Setup, app, bare},
};

/// Serves the reference routes with `handover_actix_web::serve`.
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> anyhow::Result<ExitCode> {
    reference::start(&Program::parse().flags, run, bare::actix_web)
}

async fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let setup = Setup::start(flags).await?;
    over_tls!(setup, |accept| setup
        .serve_with(async |listeners, graceful, info| {
            let mut server = handover_actix_web::serve(move || app(info))
                .with_graceful(graceful)
                .move_connections(!flags.no_move);
            if let Some(workers) = flags.workers {
                server = server.workers(workers);
            }
            for listener in listeners {
                server = server.listen(accept(listener));
            }
            // The workers have their applications before this process is ready.
            Ok(server.start().await?)
        })
        .await)
}
