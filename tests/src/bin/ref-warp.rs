//! The warp reference server, on Handover's own loop.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use handover::{Accept, Listener};
use handover_tests::reference::{self, Flags, Serve, Setup, bare, filter};
use tokio::task::JoinSet;

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
    Setup::start(flags).await?.serve(flags, Warp).await
}

struct Warp;

impl Serve for Warp {
    async fn serve<A: Accept>(
        self,
        flags: &Flags,
        setup: Setup,
        accept: impl Fn(Listener) -> A,
    ) -> anyhow::Result<ExitCode> {
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
                handover_warp::serve(filter(info))
                    .incoming(accept(listener))
                    .with_graceful(generation.graceful())
                    .move_connections(!flags.no_move)
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
}
