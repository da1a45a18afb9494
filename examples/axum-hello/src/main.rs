//! The smallest axum service that stops and restarts without losing a request.
//!
//! ```text
//! cargo run -p axum-hello -- 127.0.0.1:3000
//! ```

// ANCHOR: all
use axum::{Router, routing::get};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");

    let app = Router::new().route("/", get(async || "hello\n"));
    handover_axum::run(address, app).await?;
    Ok(())
}
// ANCHOR_END: all
