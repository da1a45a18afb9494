//! A service whose log is written by a thread of its own, so that no request waits for a disk; and
//! that has written it to its last line, which says what the drain came to, when the process ends.
//!
//! ```text
//! cargo run -p axum-telemetry -- 127.0.0.1:3000 service.log
//! curl http://127.0.0.1:3000/slow
//! ```

use std::{env, error::Error, fs::OpenOptions, time::Duration};

use axum::{Router, routing::get};
use handover::Graceful;
use tokio::{task::spawn_blocking, time::sleep};
use tracing_appender::{non_blocking, non_blocking::WorkerGuard};
use tracing_subscriber::fmt::format::FmtSpan;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let file = args.next().unwrap_or_else(|| "service.log".to_owned());

    // ANCHOR: log
    let file = OpenOptions::new().create(true).append(true).open(file)?;
    let (writer, worker) = non_blocking(file);
    tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(false)
        // A line at the end of each span: how long a phase of the drain, a step of an upgrade took.
        .with_span_events(FmtSpan::CLOSE)
        .init();
    // ANCHOR_END: log

    handover::run_generation(address, async |listener, generation| {
        // ANCHOR: last
        let graceful = generation.graceful();
        let last = graceful.last_stage();
        tokio::spawn(last.track("the log", flush(worker, last.clone())));
        // ANCHOR_END: last

        let app = Router::new().route("/slow", get(slow));
        Ok(handover_axum::serve(listener, app).with_graceful(graceful))
    })
    .await?;
    Ok(())
}

// ANCHOR: flush
/// Has what is left written when the drain has said its last word.
async fn flush(worker: WorkerGuard, last: Graceful) {
    last.draining().await;
    // It waits for the disk. An exporter's `shutdown` or `force_flush` has its place here, too.
    let _ = spawn_blocking(move || drop(worker)).await;
}
// ANCHOR_END: flush

async fn slow() -> &'static str {
    tracing::info!("a slow request");
    sleep(Duration::from_millis(700)).await;
    "done\n"
}
