//! The actix-web reference server on actix's own `HttpServer`, with Handover's listeners and token.

use std::process::ExitCode;

use anyhow::ensure;
use clap::Parser;
use handover_actix_web::foreign;
use handover_tests::reference::{self, Flags, Setup, Socket, app, bare};

/// Serves the reference routes with `actix_web::HttpServer`.
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> anyhow::Result<ExitCode> {
    reference::start(&Program::parse().flags, run, bare::actix_web)
}

async fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    // Its server takes sockets, and not what is read from them.
    ensure!(
        !flags.proxy_protocol,
        "actix-web's own server knows no PROXY protocol"
    );
    ensure!(
        flags.tls.is_none(),
        "actix-web's own server would need its TLS, which is not built in here"
    );
    Setup::start(flags)
        .await?
        .serve_with(async |listeners, graceful, info| {
            let mut server = foreign::serve(move || app(info)).with_graceful(graceful);
            if let Some(workers) = flags.workers {
                server = server.workers(workers);
            }
            for listener in listeners.into_iter().filter_map(Socket::into_inner) {
                server = server.listen(listener);
            }
            // The workers have their applications before this process is ready.
            Ok(server.start().await?)
        })
        .await
}
