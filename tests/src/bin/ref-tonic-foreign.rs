//! The gRPC reference server on tonic's own loop, with Handover's listener, layer and token.

use std::process::ExitCode;

use clap::Parser;
use handover::{Accept, Listener};
use handover_tests::reference::{self, Flags, Serve, Setup, routes, run_bare_tonic};
use handover_tonic::{DrainLayer, foreign::Incoming};
use tokio::task::JoinSet;
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
    Setup::start(flags).await?.serve(flags, Foreign).await
}

struct Foreign;

impl Serve for Foreign {
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
        let graceful = generation.graceful();
        // Made before this process is ready, so that a drain waits for them from the first moment.
        let incoming: Vec<_> = listeners
            .into_iter()
            .map(|listener| Incoming::new(accept(listener), &graceful))
            .collect();
        Setup::ready(&generation, info, sockets).await?;
        if let Some(fault) = fault {
            fault.after_ready().await;
        }
        let mut servers = JoinSet::new();
        for incoming in incoming {
            let signal = incoming.signal();
            let server = Server::builder()
                .layer(DrainLayer::new(graceful.clone()))
                .add_routes(routes(info));
            servers.spawn(server.serve_with_incoming_shutdown(incoming, signal));
        }
        while let Some(served) = servers.join_next().await {
            served??;
        }
        let report = graceful.drained().await;
        Ok(reference::finish(&generation, &report).await)
    }
}
