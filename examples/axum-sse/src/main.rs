//! A clock whose clients stay: by server-sent events, WebSocket, long poll, or a download without end.
//! When it restarts each is told, comes back, and has missed no tick.
//!
//! ```text
//! cargo run -p axum-sse -- 127.0.0.1:3000
//! curl -N http://127.0.0.1:3000/events
//! kill -HUP $(pgrep -n axum-sse)
//! ```

use std::{
    convert::Infallible,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::{WebSocketUpgrade, ws::Message},
    http::{HeaderMap, StatusCode},
    response::{Response, Sse, sse::Event},
    routing::{any, get},
};
use futures_util::{Stream, StreamExt, stream};
use handover_axum::{Draining, sse, ws};
use tokio::time::sleep;

/// Milliseconds of a tick.
const TICK: u64 = 100;
/// Nobody is told of more ticks than this that he has missed.
const MISSED: u64 = 6000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");

    let app = Router::new()
        .route("/events", get(events))
        .route("/socket", any(socket))
        .route("/poll", get(poll))
        .route("/download", get(download));
    handover_axum::run(address, app).await?;
    Ok(())
}

// ANCHOR: events
async fn events(headers: HeaderMap, draining: Draining) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let ticks = ticks_after(last.and_then(|id| id.parse().ok()));
    let events = ticks.map(|tick| {
        let event = Event::default().id(tick.to_string());
        Ok::<_, Infallible>(event.data("tick"))
    });
    sse::graceful(Sse::new(events), &draining)
}
// ANCHOR_END: events

// ANCHOR: socket
async fn socket(upgrade: WebSocketUpgrade, draining: Draining) -> Response {
    upgrade.on_upgrade(async move |socket| {
        let mut socket = ws::graceful(socket, &draining);
        // What a client sends is where it was: it is told what comes next.
        while let Some(Ok(message)) = socket.recv().await {
            let Message::Text(text) = message else {
                continue;
            };
            let mut ticks = Box::pin(ticks_after(text.parse().ok()));
            let Some(tick) = ticks.next().await else {
                return;
            };
            if socket.send(Message::text(tick.to_string())).await.is_err() {
                return;
            }
        }
    })
}
// ANCHOR_END: socket

// ANCHOR: poll
async fn poll(draining: Draining) -> Result<String, StatusCode> {
    let mut ticks = Box::pin(ticks_after(None));
    match draining.or(ticks.next()).await {
        Some(tick) => Ok(format!("{}\n", tick.unwrap_or_default())),
        // Asked again, somebody else answers.
        None => Err(StatusCode::NO_CONTENT),
    }
}
// ANCHOR_END: poll

// ANCHOR: download
async fn download(draining: Draining) -> Body {
    let lines = ticks_after(None).map(|tick| Ok::<_, Infallible>(format!("{tick}\n")));
    Body::from_stream(draining.until(lines))
}
// ANCHOR_END: download

/// The ticks after one, each when it is due: at once, if it was missed. Any process knows them all.
fn ticks_after(last: Option<u64>) -> impl Stream<Item = u64> {
    let now = since_1970().as_millis() as u64 / TICK;
    let next = last.map_or(now, |last| last.saturating_add(1).max(now - MISSED));
    stream::unfold(next, async |tick| {
        let due = Duration::from_millis(tick.saturating_mul(TICK));
        sleep(due.saturating_sub(since_1970())).await;
        Some((tick, tick + 1))
    })
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
