//! The actix-web reference server, on Handover's own loop.

use std::process::ExitCode;

use clap::Parser;
use handover::{Accept, Listener};
use handover_tests::reference::{self, Flags, Serve, Setup, app, bare};

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
    Setup::start(flags).await?.serve(flags, ActixWeb).await
}

struct ActixWeb;

impl Serve for ActixWeb {
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
        let mut server = handover_actix_web::serve(move || app(info))
            .with_graceful(generation.graceful())
            .move_connections(!flags.no_move);
        if let Some(workers) = flags.workers {
            server = server.workers(workers);
        }
        for listener in listeners {
            server = server.listen(accept(listener));
        }
        // The workers have their applications before this process is ready.
        let server = server.start().await?;
        Setup::ready(&generation, info, sockets).await?;
        if let Some(fault) = fault {
            fault.after_ready().await;
        }
        let report = server.await?;
        Ok(reference::finish(&generation, &report).await)
    }
}
