//! Plain `axum::serve` with our listener, layer and token: every drain ends on its deadline.

#[path = "../../hyper/tests/support/left.rs"]
mod left;
mod support;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::ConnectInfo, routing::get, serve::ListenerExt};
use handover::{Graceful, GracefulLayer, Kind, Reason, accept::ProxyProtocol};
use handover_axum::foreign::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use self::{
    left::Left,
    support::{DEADLINE, Server, app},
};

async fn start() -> Server {
    start_with(|layer| layer).await
}

async fn start_with(options: impl FnOnce(GracefulLayer) -> GracefulLayer) -> Server {
    let graceful = Graceful::builder().deadline(DEADLINE).build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let incoming = Incoming::tcp(listener, &graceful);
    let signal = incoming.signal();
    let app = app().layer(options(GracefulLayer::new(graceful.clone())));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let serve = axum::serve(incoming.tap_io(|_| {}), app).with_graceful_shutdown(signal);
    let token = graceful.clone();
    Server {
        addr,
        graceful,
        done: tokio::spawn(async move {
            serve.await.unwrap();
            token.drained().await
        }),
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
async fn an_idle_connection_is_told_by_its_next_answer_and_ends_the_drain() {
    let server = start().await;
    let mut client = server.connect().await;
    client.get("/").await;
    client.until("hello").await;
    server.until(Kind::Idle).await;
    server.graceful.drain();
    client.get("/").await;
    assert!(client.end().await.contains("connection: close"));
    let (report, took) = server.drained().await;
    assert!(report.is_complete(), "{report}");
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed_when_the_window_is_over() {
    let server = start().await;
    let client = server.connect().await;
    server.until(Kind::Fresh).await;
    let (report, took) = server.drained().await;
    assert!(report.is_complete(), "{report}");
    assert!(took < DEADLINE, "{took:?}");
    assert_eq!(client.end().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_is_cut() {
    for half in ["GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
        let server = start().await;
        let mut client = server.connect().await;
        client.send(half).await;
        server.until(Kind::Request).await;
        let report = server.assert_cut().await;
        assert_eq!(report.abandoned, 0, "{report}");
        assert_eq!(client.end().await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_and_bodies_that_never_end_are_cut_with_a_pipeline_unread() {
    for path in ["/hold", "/hang-body"] {
        let server = start().await;
        let mut client = server.connect().await;
        client.get(path).await;
        server.until(Kind::Stream).await;
        for _ in 0..50 {
            client.get("/").await;
        }
        let report = server.assert_cut().await;
        assert!(
            report.to_string().contains(&format!("GET {path}")),
            "{report}"
        );
        assert_eq!(report.abandoned, 0, "{report}");
        let answer = client.end().await;
        let expected = if path == "/hold" { "503" } else { "200" };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{answer}"
        );
        assert!(
            !answer.contains("0\r\n\r\n"),
            "it must not look complete: {answer}"
        );
    }
}

/// One that keeps its connection is told to go by one word, whoever answers it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_older_http_that_is_refused_is_told_to_go() {
    let get = |path| format!("GET {path} HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let is_told = |answer: &str| {
        assert!(answer.contains(" 503 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(!answer.contains("keep-alive"), "{answer}");
    };
    let server = start_with(|layer| layer.refuse_while_draining(DEADLINE)).await;
    let (mut late, mut held) = (server.connect().await, server.connect().await);
    held.send(&get("/hold")).await;
    server.until(Kind::Stream).await;
    late.send(&get("/")).await;
    late.until("hello").await;
    server.graceful.drain();
    late.send(&get("/")).await;
    is_told(&late.end().await);
    // That one is cut.
    server.drained().await;
    is_told(&held.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_upload_is_cut() {
    let server = start().await;
    let mut client = server.connect().await;
    client
        .send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
        .await;
    server.until(Kind::Stream).await;
    let report = server.assert_cut().await;
    assert_eq!(report.abandoned, 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_peer_that_never_answers_the_ping_is_cut() {
    let server = start().await;
    let mut client = server.connect().await;
    client
        .send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    server.until(Kind::Idle).await;
    let report = server.assert_cut().await;
    assert_eq!(report.abandoned, 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_cut() {
    let server = start().await;
    let url = format!("ws://{}/ws", server.addr);
    let (_socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    server.until(Kind::Idle).await;
    let report = server.assert_cut().await;
    assert_eq!(report.abandoned, 0, "{report}");
}

/// Fails if a drain is over, or takes nothing more, before the listener says that nothing is left.
#[tokio::test]
async fn what_is_left_of_a_socket_is_served_in_an_upgrade() {
    let (send, left) = Left::new();
    let graceful = Graceful::new();
    let incoming = Incoming::new(left, &graceful);
    let signal = incoming.signal();
    let app = Router::new()
        .route("/", get(async || "hello"))
        .layer(GracefulLayer::new(graceful.clone()));
    let done = tokio::spawn(async move {
        let serve = axum::serve(incoming, app).with_graceful_shutdown(signal);
        serve.await.unwrap();
    });
    tokio::task::yield_now().await;
    graceful.drain_for(Reason::Upgrade { successor: 1 });
    graceful.draining().await;
    for _ in 0..3 {
        let (mut client, server) = tokio::io::duplex(4096);
        send.send(server).unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
    }
    assert!(graceful.report().is_none(), "more may be left");
    drop(send);
    assert!(graceful.drained().await.is_complete());
    done.await.unwrap();
}

/// As a handler has it by axum's own means.
#[tokio::test]
async fn behind_a_balancer_the_peer_is_the_client() {
    let graceful = Graceful::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let incoming = Incoming::tcp(ProxyProtocol::new(listener, &graceful), &graceful);
    let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
    let app = Router::new().route("/", get(peer));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(incoming.tap_io(|_| {}), app).into_future());
    let mut client = TcpStream::connect(at).await.unwrap();
    let request = "PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n\
                   GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("203.0.113.9:51234"), "{answer}");
}
