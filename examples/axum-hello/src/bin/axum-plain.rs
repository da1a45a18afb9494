//! The same service without Handover: what there is to change. See `../main.rs`.
//!
//! ```text
//! cargo run -p axum-hello --bin axum-plain -- 127.0.0.1:3000
//! ```

// ANCHOR: all
use axum::{Router, routing::get};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");

    let app = Router::new().route("/", get(async || "hello\n"));
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, app).await?;
    Ok(())
}
// ANCHOR_END: all
