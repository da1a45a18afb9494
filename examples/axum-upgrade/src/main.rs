//! What `handover_axum::run` does in one line, written out: the place to change any of it.
//!
//! ```text
//! cargo run -p axum-upgrade -- 127.0.0.1:3000
//! kill -HUP $(cat axum-upgrade.pid)
//! ```

use std::{env, error::Error, time::Duration};

use axum::{Router, extract::Path, routing::get};
use handover::{Generation, Graceful, Policy};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let address = env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");

    // ANCHOR: start
    // Signals are handled from here on, and what a predecessor left is here.
    let policy = Policy::default().with_deadline(Duration::from_secs(20));
    let generation = Generation::builder()
        .graceful(Graceful::with_policy(policy))
        .pid_file("axum-upgrade.pid")
        // ANCHOR: control
        // `handover upgrade --control axum-upgrade.control`, and `status`, `drain`, `cut`.
        .control("axum-upgrade.control")
        // No upgrade to a program that cannot start, and no more old processes than these.
        .check_first(true)
        .max_draining(3)
        // ANCHOR_END: control
        .start()?;
    // ANCHOR_END: start

    // ANCHOR: listen
    // The predecessor's socket, or a supervisor's, or a new one. Nothing is accepted yet.
    let listener = generation.listen(address).await?;
    let local = listener.local_addr()?;
    // ANCHOR_END: listen

    // ANCHOR: state
    // A successor begins with what its predecessor knew when it was started.
    let greeting = generation
        .take_state("greeting")
        .and_then(|state| String::from_utf8(state.into_bytes()).ok())
        .unwrap_or_else(|| format!("hello, first said by process {}", std::process::id()));
    let kept = greeting.clone();
    generation.keep_state("greeting", 1, move || Ok(kept.clone().into_bytes()));
    // ANCHOR_END: state

    // ANCHOR: serve
    let number = generation.number();
    let app = Router::new()
        .route("/", get(async move || format!("{greeting}\n")))
        .route("/generation", get(async move || format!("{number}\n")))
        .route("/slow/{millis}", get(move |millis| slow(millis, number)));
    let server = handover_axum::serve(listener, app).with_graceful(generation.graceful());
    // ANCHOR_END: serve

    // ANCHOR: ready
    // Whatever takes its time, such as filling a cache, goes before this line: the predecessor
    // serves until then.
    generation.ready().await?;
    tracing::info!(%local, "ready");
    // ANCHOR_END: ready

    // ANCHOR: drain
    // Ends when a signal or a successor has begun a drain, and the drain is over.
    let report = server.await?;
    if !report.is_complete() {
        return Err("something was cut at the deadline".into());
    }
    // ANCHOR_END: drain
    Ok(())
}

async fn slow(Path(millis): Path<u64>, number: u64) -> String {
    tracing::info!(millis, "asked for something slow");
    sleep(Duration::from_millis(millis)).await;
    format!("done by generation {number}\n")
}
