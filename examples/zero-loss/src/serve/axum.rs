//! Plain axum: `axum::serve` with its own graceful shutdown, on an inherited socket.

use std::io::{self, Write};

use anyhow::Context as _;
use handover_tests::reference::{Info, bare, ready_line, router};
use tokio::signal::unix::{SignalKind, signal};

/// Serves on the listening socket that is stdin, until SIGTERM and what is under way then.
pub(crate) async fn run(generation: u64) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let listener = bare::stdin().context("stdin is no listening socket")?;
    let info = Info::new(generation);
    let line = ready_line(info, [("http", listener.local_addr()?)]);
    let server = axum::serve(listener, router(info)).with_graceful_shutdown(async move {
        term.recv().await;
    });
    io::stdout().write_all(line.as_bytes())?;
    server.await?;
    Ok(())
}
