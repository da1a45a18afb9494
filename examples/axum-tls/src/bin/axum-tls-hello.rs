//! The smallest axum service over TLS that stops and restarts without losing a request.
//!
//! ```text
//! cargo run -p axum-tls --bin axum-tls-hello -- 127.0.0.1:8443 cert.pem key.pem
//! ```

// ANCHOR: all
use axum::{Router, routing::get};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(cert), Some(key)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: axum-tls-hello ADDRESS CERTIFICATE KEY".into());
    };

    let app = Router::new().route("/", get(async || "hello\n"));
    handover_axum::run_tls(address, cert, key, app).await?;
    Ok(())
}
// ANCHOR_END: all
