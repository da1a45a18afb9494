//! What a drain does with an HTTP/2 connection.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use handover::{Kind, Policy};
use http::{Request, StatusCode};
use tokio::{net::TcpStream, task::JoinHandle};

use self::support::{
    DEADLINE, Server, assert_on_time,
    frames::{self, HELLO, MAX, answer, frame, goaway, ping, until_answered, write},
};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_on_its_way_is_served_before_the_final_goaway() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    server.until(Kind::Idle).await;
    server.graceful.drain();
    assert_eq!(goaway(&mut client).await, Some((MAX, 0)));
    let payload = ping(&mut client).await;
    write(&mut client, &frames::get(1, "/")).await;
    until_answered(&mut client, 1).await;
    answer(&mut client, &payload).await;
    assert_eq!(goaway(&mut client).await, Some((1, 0)));
    assert_eq!(frame(&mut client).await, None);
    drop(client);
    assert!(server.done.await.unwrap().is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_final_goaway_comes_without_an_answer_when_the_window_is_over() {
    let policy = Policy::default().with_announce(Duration::from_millis(300));
    let server = Server::with(policy, |serve| serve).await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    // A stream that it has looked at.
    write(&mut client, &frames::get(1, "/")).await;
    until_answered(&mut client, 1).await;
    let began = Instant::now();
    server.graceful.drain();
    assert_eq!(goaway(&mut client).await, Some((MAX, 0)));
    assert!(began.elapsed() < Duration::from_millis(200));
    assert_eq!(goaway(&mut client).await, Some((1, 0)));
    assert!(began.elapsed() >= Duration::from_millis(240));
    assert_eq!(frame(&mut client).await, None);
    assert!(server.done.await.unwrap().is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlasts_the_window_of_a_peer_that_never_answers() {
    let policy = Policy::default().with_announce(Duration::from_millis(100));
    let mut server = Server::with(policy, |serve| serve).await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    write(&mut client, &frames::get(1, "/wait")).await;
    server.called.recv().await.unwrap();
    server.graceful.drain();
    assert_eq!(goaway(&mut client).await, Some((MAX, 0)));
    assert_eq!(goaway(&mut client).await, Some((1, 0)));
    server.go.add_permits(1);
    let mut kinds = Vec::new();
    while let Some((kind, ..)) = frame(&mut client).await {
        kinds.push(kind);
    }
    assert_eq!(kinds, [1, 0], "head and body");
    assert!(server.done.await.unwrap().is_complete());
}

/// The kernel still has to send most of it when the server has written it.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_not_lost_to_a_reset() {
    let server = Server::start().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let stream = socket.connect(server.addr).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(16 << 20)
        .initial_connection_window_size(16 << 20);
    let (mut send, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://x/big").body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    server.graceful.drain();
    let mut length = 0;
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap_or_else(|error| panic!("after {length} bytes: {error}"));
        length += chunk.len();
        // Each makes the client send a window update.
        body.flow_control().release_capacity(chunk.len()).unwrap();
    }
    assert_eq!(length, 8 << 20);
    drop((body, send));
    assert!(server.done.await.unwrap().is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_to_a_lame_duck_is_told_when_that_is_over() {
    const LAME_DUCK: Duration = Duration::from_secs(3);
    let policy = Policy::default().with_lame_duck(LAME_DUCK);
    let server = Server::with_all_of(policy, |serve| serve).await;
    let mut first = server.connect().await;
    first.send(HELLO).await;
    // The server's settings: it came before the lame duck.
    assert!(frame(&mut first).await.is_some());
    let began = Instant::now();
    server.graceful.drain();
    assert_eq!(goaway(&mut first).await, Some((MAX, 0)));
    let (mut second, connection) = connect(&server).await;
    for _ in 0..3 {
        get(&mut second, "/").await.unwrap();
    }
    connection.await.unwrap().unwrap();
    assert!(began.elapsed() >= LAME_DUCK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_told_before_it_is_closed() {
    let policy = Policy::default().with_announce(Duration::from_millis(100));
    let idle = Duration::from_millis(100);
    let server = Server::with(policy, |serve| serve.idle_timeout(idle)).await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    assert_eq!(goaway(&mut client).await, Some((MAX, 0)));
    ping(&mut client).await;
    // It was about to use it.
    write(&mut client, &frames::get(1, "/")).await;
    assert_eq!(goaway(&mut client).await, Some((1, 0)));
    assert_eq!(frame(&mut client).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_http2_alone_does_not_wait_for_a_preface() {
    let set = |serve: handover_hyper::Serve<_, _>| {
        serve
            .http2_only()
            .header_read_timeout(Duration::from_millis(100))
    };
    let server = Server::with(Policy::default(), set).await;
    for half in ["", &HELLO[..10]] {
        let mut client = server.connect().await;
        client.send(half).await;
        assert_eq!(client.end().await, (String::new(), true), "{half:?}");
    }
}
