//! The same service without Handover: what there is to change. See `../main.rs`.
//!
//! ```text
//! cargo run -p warp-hello --bin warp-plain -- 127.0.0.1:3000
//! ```

// ANCHOR: all
use std::net::SocketAddr;

use warp::Filter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");

    let hello = warp::path::end().map(|| "hello\n");
    let address: SocketAddr = address.parse()?;
    warp::serve(hello).run(address).await;
    Ok(())
}
// ANCHOR_END: all
