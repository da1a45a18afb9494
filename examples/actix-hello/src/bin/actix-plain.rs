//! The same service without Handover: what there is to change. See `../main.rs`.
//!
//! ```text
//! cargo run -p actix-hello --bin actix-plain -- 127.0.0.1:3000
//! ```

// ANCHOR: all
use actix_web::{App, HttpServer, web};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");

    let app = || App::new().route("/", web::get().to(async || "hello\n"));
    HttpServer::new(app).bind(address)?.run().await?;
    Ok(())
}
// ANCHOR_END: all
