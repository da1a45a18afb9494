//! Handover: the same routes, and a server that knows how to be replaced.

use std::io::{self, Write};

use handover::Generation;
use handover_tests::reference::{Info, ready_line, router};

/// Serves until it was replaced or asked to end, and has drained.
pub(crate) async fn run() -> anyhow::Result<()> {
    let generation = Generation::start()?;
    let listener = generation.listen("http=127.0.0.1:0").await?;
    let info = Info::new(generation.number());
    let line = ready_line(info, [("http", listener.local_addr()?)]);
    let server = handover_axum::serve(listener, router(info)).with_graceful(generation.graceful());
    generation.ready().await?;
    io::stdout().write_all(line.as_bytes())?;
    let report = server.await?;
    eprintln!("{report}");
    Ok(())
}
