//! A WebSocket of actix-ws whose client is told of a drain.
//!
//! ```text
//! cargo run -p actix-hello --bin actix-echo -- 127.0.0.1:3000
//! ```

use actix_web::{App, Error, HttpRequest, HttpResponse, rt, web};
use actix_ws::Message;
use handover_actix_web::{Draining, ws};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    let app = || App::new().route("/ws", web::get().to(echo));
    handover_actix_web::run(address, app).await?;
    Ok(())
}

async fn echo(
    request: HttpRequest,
    body: web::Payload,
    draining: Draining,
) -> Result<HttpResponse, Error> {
    // ANCHOR: socket
    let (response, mut session, messages) = actix_ws::handle(&request, body)?;
    let mut messages = ws::graceful(messages, &session, &draining);
    // ANCHOR_END: socket
    rt::spawn(async move {
        while let Some(Ok(message)) = messages.recv().await {
            if let Message::Text(text) = message
                && session.text(text).await.is_err()
            {
                return;
            }
        }
    });
    Ok(response)
}
