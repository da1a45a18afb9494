//! A service whose configuration is read at its start, and at no other time. A SIGHUP replaces the
//! process, so that it is read anew; one that cannot be used is the end of the new process, and the
//! old one serves on with what it has.
//!
//! ```text
//! echo '{"listen": ["127.0.0.1:3000"], "greeting": "hello"}' > config.json
//! cargo run -p config-reload -- config.json
//! echo '{"listen": ["127.0.0.1:3000"], "greeting": "good evening"}' > config.json
//! kill -HUP $(pgrep -n config-reload)
//! ```

use std::{env, error::Error, fs, io};

use axum::{Router, routing::get};
use handover::Generation;
use serde::Deserialize;

// ANCHOR: config
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to listen; each may be new, and each may go.
    listen: Vec<String>,
    greeting: String,
}

fn read(file: &str) -> Result<Config, String> {
    let text = fs::read_to_string(file).map_err(|err| format!("{file}: {err}"))?;
    serde_json::from_str(&text).map_err(|err| format!("{file}: {err}"))
}
// ANCHOR_END: config

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let file = env::args().nth(1).unwrap_or("config.json".into());
    let generation = Generation::start()?;

    // Whatever fails from here to `ready` is told to the predecessor, and changes nothing for it.
    let config = read(&file)?;
    let greeting = config.greeting;
    let app = Router::new().route("/", get(async move || format!("{greeting}\n")));
    let mut servers = Vec::new();
    for address in &config.listen {
        let listener = generation.listen(address).await?;
        let local = listener.local_addr()?;
        let server = handover_axum::serve(listener, app.clone());
        servers.push(tokio::spawn(
            server.with_graceful(generation.graceful()).into_future(),
        ));
        tracing::info!(address, %local, "listening");
    }
    generation.ready().await?;

    for server in servers {
        server.await??;
    }
    generation.finished().await;
    Ok(())
}
// ANCHOR_END: main
