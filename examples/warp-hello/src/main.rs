//! The smallest warp service that stops and restarts without losing a request.
//!
//! ```text
//! cargo run -p warp-hello -- 127.0.0.1:3000
//! ```

// ANCHOR: all
use warp::Filter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");

    let hello = warp::path::end().map(|| "hello\n");
    handover_warp::run(address, hello).await?;
    Ok(())
}
// ANCHOR_END: all
