//! What a drain does with an HTTP/2 connection.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use handover::{Kind, Policy};
use http::{Request, StatusCode};
use tokio::{net::TcpStream, task::JoinHandle};

use self::support::{DEADLINE, Server, assert_on_time};

/// The preface and an empty SETTINGS frame.
const HELLO: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn connect(server: &Server) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    (send, tokio::spawn(connection))
}

async fn get(send: &mut SendRequest<Bytes>, path: &str) -> Result<(StatusCode, Bytes), h2::Error> {
    let request = Request::get(format!("http://x{path}")).body(()).unwrap();
    let (response, _) = send.send_request(request, true)?;
    let response = response.await?;
    let status = response.status();
    let mut body = response.into_body();
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len()).unwrap();
        all.extend_from_slice(&chunk);
    }
    Ok((status, all.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_goes_at_once() {
    let server = Server::start().await;
    let (mut send, connection) = connect(&server).await;
    get(&mut send, "/").await.unwrap();
    let (report, took) = server.drained().await;
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert!(report.is_complete(), "{report}");
    connection.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_under_way_is_finished_and_ends_the_drain() {
    let mut server = Server::start().await;
    let (mut send, connection) = connect(&server).await;
    let waits = tokio::spawn(async move { get(&mut send, "/wait").await });
    server.called.recv().await.unwrap();
    server.graceful.drain();
    server.until(Kind::Stream).await;
    server.go.add_permits(1);
    let (status, body) = waits.await.unwrap().unwrap();
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"waited"[..]));
    let answered = Instant::now();
    let report = server.done.await.unwrap();
    assert!(answered.elapsed() < Duration::from_millis(50));
    assert!(report.is_complete(), "{report}");
    connection.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_never_ends_is_answered_for() {
    let mut server = Server::start().await;
    let (mut send, _connection) = connect(&server).await;
    let waits = tokio::spawn(async move { get(&mut send, "/never").await });
    server.called.recv().await.unwrap();
    let (report, took) = server.drained().await;
    assert_on_time(took);
    assert_eq!(report.cut.len(), 1, "{report}");
    assert!(
        report.to_string().contains("GET /never 127.0.0.1:"),
        "{report}"
    );
    let (status, _) = waits.await.unwrap().unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_broken_off() {
    let server = Server::start().await;
    let (mut send, _connection) = connect(&server).await;
    let waits = tokio::spawn(async move { get(&mut send, "/endless").await });
    server.until(Kind::Stream).await;
    let (report, took) = server.drained().await;
    assert_on_time(took);
    assert_eq!(report.cut.len(), 1, "{report}");
    assert!(waits.await.unwrap().is_err(), "it must not look complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_answers_the_ping_is_not_waited_for() {
    let server = Server::start().await;
    let mut silent = server.connect().await;
    silent.send(HELLO).await;
    server.until(Kind::Idle).await;
    let (report, took) = server.drained().await;
    assert!(took < DEADLINE, "{took:?}");
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stops_within_its_settings_is_not_waited_for() {
    let server = Server::start().await;
    let mut silent = server.connect().await;
    silent.send(&HELLO[..HELLO.len() - 3]).await;
    server.until(Kind::Idle).await;
    let (report, took) = server.drained().await;
    assert!(took < DEADLINE, "{took:?}");
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_is_sent_away_and_its_streams_are_finished() {
    let policy = Policy::default().with_announce(Duration::from_millis(100));
    let mut server = Server::with(policy, |serve| {
        serve.max_connection_age(Duration::from_millis(100))
    })
    .await;
    let (mut send, connection) = connect(&server).await;
    let waits = tokio::spawn(async move { get(&mut send, "/wait").await });
    server.called.recv().await.unwrap();
    let (mut idle, ended) = connect(&server).await;
    get(&mut idle, "/").await.unwrap();
    ended.await.unwrap().unwrap();
    server.go.add_permits(1);
    assert_eq!(waits.await.unwrap().unwrap().0, StatusCode::OK);
    connection.await.unwrap().unwrap();
}
