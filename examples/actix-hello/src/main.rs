//! The smallest actix-web service that stops and restarts without losing a request.
//!
//! ```text
//! cargo run -p actix-hello -- 127.0.0.1:3000
//! ```

// ANCHOR: all
use actix_web::{App, web};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");

    let app = || App::new().route("/", web::get().to(async || "hello\n"));
    handover_actix_web::run(address, app).await?;
    Ok(())
}
// ANCHOR_END: all
