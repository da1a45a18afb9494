//! A chat over WebSockets, whose clients notice nothing of an upgrade: no connection is closed, no
//! message is lost, and all see the same messages in the same order.
//!
//! ```text
//! cargo run -p websocket-chat -- 127.0.0.1:3000
//! xdg-open http://127.0.0.1:3000
//! kill -HUP $(cat websocket-chat.pid)
//! ```

mod log;
mod session;

use std::{env, error::Error};

use axum::{
    Router,
    body::Body,
    extract::{Query, Request, State},
    http::StatusCode,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use handover::{Generation, Stream, accept::Movable};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::{
    log::Log,
    session::{CHAT, Session},
};

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let address = env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    let generation = Generation::builder()
        .pid_file("websocket-chat.pid")
        .start()?;
    let listener = generation.listen(address).await?;
    let local = listener.local_addr()?;
    let log = Log::open("websocket-chat.log")?;
    tokio::spawn(log.clone().follow());

    let number = generation.number();
    let app = Router::new()
        .route("/", get(Html(include_str!("page.html"))))
        .route("/generation", get(async move || format!("{number}\n")))
        .route("/chat", get(join))
        .with_state(log.clone());
    let server = handover_axum::serve(listener, app)
        .with_graceful(generation.graceful())
        // The sessions of the predecessor. What is HTTP goes to the application as ever.
        .adopt(CHAT, move |connection| adopt(connection, log.clone()));
    generation.ready().await?;
    tracing::info!(%local, "ready");
    server.await?;
    Ok(())
}
// ANCHOR_END: main

#[derive(Deserialize)]
struct Join {
    nick: String,
    room: String,
}

// ANCHOR: join
/// Opens a WebSocket, as one that can move.
async fn join(State(log): State<Log>, Query(join): Query<Join>, mut request: Request) -> Response {
    // Checks the request, and answers it.
    let response = match create_response_with_body(&request, Body::empty) {
        Ok(response) => response,
        Err(err) => return (StatusCode::BAD_REQUEST, err.to_string()).into_response(),
    };
    let Some(session) = Session::new(join.nick, join.room, log.end()) else {
        return (StatusCode::BAD_REQUEST, "that name is too long\n").into_response();
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(err) => return tracing::info!(%err, "a client did not stay"),
        };
        match handover_axum::movable::<Stream>(upgraded, CHAT) {
            Ok(connection) => serve(connection, session, log).await,
            Err(err) => tracing::warn!(%err, "a client cannot be served"),
        }
    });
    response
}

/// Serves a session of the predecessor on.
async fn adopt(mut connection: Movable<Stream>, log: Log) {
    let state = connection.take_state().unwrap_or_default();
    match serde_json::from_slice(&state) {
        Ok(session) => serve(connection, session, log).await,
        Err(err) => tracing::error!(%err, "a session's state cannot be read"),
    }
}
// ANCHOR_END: join

async fn serve(connection: Movable<Stream>, session: Session, log: Log) {
    let (peer, nick) = (connection.peer().clone(), session.nick.clone());
    let since = connection.connection().since().elapsed();
    tracing::info!(%peer, nick, ?since, "a session begins");
    if let Err(err) = session::serve(connection, session, log).await {
        tracing::info!(%peer, nick, %err, "a session has failed");
    }
}
