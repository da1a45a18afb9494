//! `handover_axum::serve`.

mod support;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use handover::{Graceful, Kind, health::Health};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use self::support::{DEADLINE, Server, app};

async fn start() -> Server {
    let graceful = Graceful::builder().deadline(DEADLINE).build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = handover_axum::serve(listener, app()).with_graceful(graceful.clone());
    Server {
        addr,
        graceful,
        done: tokio::spawn(async { serve.await.unwrap() }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_sees_its_peer() {
    let server = start().await;
    let mut client = server.connect().await;
    let addr = client.stream.local_addr().unwrap();
    client.get("/peer").await;
    client.until(&addr.to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_is_answered_for() {
    let server = start().await;
    let mut client = server.connect().await;
    client.get("/hold").await;
    server.until(Kind::Request).await;
    let report = server.assert_cut().await;
    assert!(report.to_string().contains("cut 1: GET /hold"), "{report}");
    assert!(client.end().await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_websocket_works_through_the_drain_and_is_cut() {
    let server = start().await;
    let url = format!("ws://{}/ws", server.addr);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    server.until(Kind::Upgraded).await;
    server.graceful.drain();
    socket.send(Message::text("still there?")).await.unwrap();
    let echo = socket.next().await.unwrap().unwrap();
    assert_eq!(echo.into_text().unwrap().as_str(), "still there?");
    let report = server.assert_cut().await;
    assert_eq!(report.cut.len(), 1, "{report}");
    assert!(
        report.to_string().contains("upgraded connection GET /ws"),
        "{report}"
    );
    assert_eq!(report.abandoned, 0);
    assert!(socket.next().await.is_none_or(|message| message.is_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_closes_ends_the_drain() {
    let server = start().await;
    let url = format!("ws://{}/ws", server.addr);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    server.until(Kind::Upgraded).await;
    server.graceful.drain();
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    let (report, took) = server.drained().await;
    assert!(report.is_complete(), "{report}");
    assert!(took < Duration::from_millis(100), "{took:?}");
}

/// The same in every adapter: who stops is not ready, and lives.
#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_in_a_drain() {
    let graceful = Graceful::builder().lame_duck(2 * DEADLINE).build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let health = Health::new(graceful.clone());
    let app = axum::Router::new().merge(handover_axum::health(&health));
    let serve = handover_axum::serve(listener, app).with_graceful(graceful.clone());
    let server = Server {
        addr,
        graceful,
        done: tokio::spawn(async { serve.await.unwrap() }),
    };
    let mut client = server.connect().await;
    client.get("/readyz").await;
    client.until("HTTP/1.1 200 ").await;
    client.until("\r\n\r\nok\n").await;
    drop(client);
    server.graceful.drain();
    let mut client = server.connect().await;
    client.get("/livez").await;
    let answer = client.end().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut client = server.connect().await;
    client.get("/readyz").await;
    let answer = client.end().await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\n\r\nlame duck ("), "{answer}");
    assert!(server.done.await.unwrap().is_complete());
}
