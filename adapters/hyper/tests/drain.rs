//! What a drain does with an HTTP/1 connection in each state. Real sockets, bare clients.

mod support;

use std::{
    convert::Infallible,
    io::ErrorKind,
    time::{Duration, Instant},
};

use bytes::Bytes;
use handover::{Graceful, Kind, Policy};
use handover_hyper::RequestBody;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use self::support::{Client, DEADLINE, Server, assert_on_time};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_open_ends_at_once() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.get("/").await;
    client.until("hello").await;
    drop(client);
    while !server.graceful.holders().is_empty() {
        tokio::task::yield_now().await;
    }
    let (report, took) = server.drained().await;
    assert!(took < Duration::from_millis(50), "{took:?}");
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_byte_is_served_in_the_window_and_closed_after_it() {
    let server = Server::start().await;
    let mut speaks = server.connect().await;
    let silent = server.connect().await;
    server.until(Kind::Fresh).await;
    while server.graceful.holders().len() < 2 {
        tokio::task::yield_now().await;
    }
    server.graceful.drain();
    speaks.get("/").await;
    let answer = speaks.until("hello").await;
    assert!(answer.contains("connection: close"), "{answer}");
    let (report, took) = server.drained().await;
    assert!(took < DEADLINE, "{took:?}");
    assert!(report.is_complete(), "{report}");
    assert_eq!(silent.end().await, (String::new(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_told_by_its_next_answer() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.get("/").await;
    let answer = client.until("hello").await;
    assert!(!answer.contains("connection: close"), "{answer}");
    server.until(Kind::Idle).await;
    server.graceful.drain();
    client.get("/").await;
    let answer = client.until("hello").await;
    assert!(answer.contains("connection: close"), "{answer}");
    let began = Instant::now();
    assert_eq!(client.end().await, (String::new(), true));
    let report = server.done.await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(100));
    assert!(report.is_complete(), "{report}");
}

/// One that keeps its connection though it speaks HTTP/1.0 is told as well, and by nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_older_http_is_told_to_go() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let get = "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    client.send(get).await;
    let answer = client.until("hello").await;
    assert!(answer.contains("connection: keep-alive\r\n"), "{answer}");
    server.until(Kind::Idle).await;
    server.graceful.drain();
    client.send(get).await;
    let (answer, is_clean) = client.end().await;
    assert!(
        is_clean && answer.contains("connection: close\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with("hello") && !answer.contains("keep-alive"),
        "{answer}"
    );
    let (report, _) = server.drained().await;
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_is_waited_for_and_answered() {
    let mut server = Server::start().await;
    let mut first = server.connect().await;
    first.send("GET / HTTP/1.1\r\nho").await;
    let mut second = server.connect().await;
    second.get("/").await;
    second.until("hello").await;
    server.called.recv().await.unwrap();
    second.send("GET /ag").await;
    server.until(Kind::Head).await;
    server.graceful.drain();
    first.send("st: x\r\n\r\n").await;
    second.send("ain HTTP/1.1\r\nhost: x\r\n\r\n").await;
    for client in [first, second] {
        let (answer, clean) = client.end().await;
        assert!(clean && answer.contains("hello"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert!(server.done.await.unwrap().is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_answered_and_ends_the_drain() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    client.get("/wait").await;
    server.called.recv().await.unwrap();
    server.graceful.drain();
    server.go.add_permits(1);
    let answer = client.until("waited").await;
    assert!(answer.contains("connection: close"), "{answer}");
    let answered = Instant::now();
    let report = server.done.await.unwrap();
    assert!(answered.elapsed() < Duration::from_millis(50));
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.at_start.requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_under_way_is_sent_to_its_end() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.get("/stream").await;
    client.until("first").await;
    server.graceful.drain();
    server.go.add_permits(1);
    client.until("0\r\n\r\n").await;
    let (report, took) = server.drained().await;
    assert!(took < DEADLINE, "{took:?}");
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_for_ever_is_cut() {
    for half in [
        "GET / HT",
        "GET / HTTP/1.1\r\nhost: x\r\n",
        "PRI * HTTP/2.0\r\n\r\nS",
    ] {
        let server = Server::start().await;
        let mut client = server.connect().await;
        client.send(half).await;
        server.until(Kind::Head).await;
        let (_, took) = server.drained().await;
        assert_on_time(took);
        let _ = client.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_is_answered_for() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    client.get("/never").await;
    server.called.recv().await.unwrap();
    let (report, took) = server.drained().await;
    assert_on_time(took);
    assert_eq!(report.cut.len(), 1, "{report}");
    assert!(
        report.to_string().contains("GET /never 127.0.0.1:"),
        "{report}"
    );
    assert_eq!(report.abandoned, 0);
    let (answer, clean) = client.end().await;
    assert!(clean && answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_older_http_is_answered_for_a_handler_that_never_ends() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    let get = "GET /never HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    client.send(get).await;
    server.called.recv().await.unwrap();
    server.drained().await;
    let (answer, clean) = client.end().await;
    assert!(clean && answer.contains(" 503 "), "{answer}");
    assert!(
        answer.contains("connection: close\r\n") && !answer.contains("keep-alive"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_is_answered_for_with_a_pipeline_unread() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    client.get("/never").await;
    server.called.recv().await.unwrap();
    for _ in 0..200 {
        client.get("/").await;
    }
    let (report, took) = server.drained().await;
    assert_on_time(took);
    assert_eq!(report.abandoned, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_that_nobody_has_read_holds_nothing_once_it_is_closed() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let upgrade = "GET /leave HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.send(upgrade).await;
    let (answer, _) = client.end().await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let (report, _) = server.drained().await;
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_broken_off() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.get("/endless").await;
    client.until("\r\n\r\n").await;
    let (report, took) = server.drained().await;
    assert_on_time(took);
    assert_eq!(report.cut.len(), 1, "{report}");
    assert_eq!(report.abandoned, 0);
    let (rest, _) = client.end().await;
    assert!(
        !rest.contains("0\r\n\r\n"),
        "it must not look complete: {rest}"
    );
}

/// To a client of HTTP/1.0 the end of the connection is that of the body.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_with_its_connection_is_broken_off_by_a_reset() {
    let mut server = Server::start().await;
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    client
        .write_all(b"GET /stream HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    server.called.recv().await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"first") {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0);
    }
    let (report, took) = server.drained().await;
    assert_on_time(took);
    assert_eq!(report.cut.len(), 1, "{report}");
    let end = client.read_buf(&mut answer).await;
    let error = end.expect_err("it must not look complete");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.contains("content-length"), "{answer}");
}

/// What it has not taken is given up: it is as much a half.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_that_never_reads_is_cut_by_a_reset() {
    let mut server = Server::start().await;
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    client
        .write_all(b"GET /big HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    server.called.recv().await.unwrap();
    let (report, took) = server.drained().await;
    assert_on_time(took);
    assert_eq!(report.cut.len(), 1, "{report}");
    let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_cut() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    client.get("/big").await;
    server.called.recv().await.unwrap();
    let (report, took) = server.drained().await;
    assert_on_time(took);
    assert_eq!(report.cut.len(), 1, "{report}");
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stalls_is_cut() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    client
        .send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
        .await;
    server.called.recv().await.unwrap();
    let (report, took) = server.drained().await;
    assert_on_time(took);
    assert_eq!(report.cut.len(), 1, "{report}");
    let (answer, _) = client.end().await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_way_is_finished() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    client
        .send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nhalf")
        .await;
    server.called.recv().await.unwrap();
    server.graceful.drain();
    client.send("full").await;
    let (answer, clean) = client.end().await;
    assert!(clean && answer.ends_with("halffull"), "{answer}");
    assert!(server.done.await.unwrap().is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_has_queued_is_served() {
    let server = Server::with(Policy::default(), |serve| serve.max_connections(1)).await;
    let mut first = server.connect().await;
    first.get("/").await;
    first.until("hello").await;
    let mut queued = server.connect().await;
    queued.get("/").await;
    server.graceful.drain();
    drop(first);
    let (answer, clean) = queued.end().await;
    assert!(clean && answer.contains("hello"), "{answer}");
    assert!(server.done.await.unwrap().is_complete());
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_before_the_first_poll_waits_for_what_is_queued() {
    let graceful = Graceful::builder().deadline(DEADLINE).build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut queued = Client::connect(listener.local_addr().unwrap()).await;
    let hello = tower::service_fn(async |_: Request<RequestBody>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
    });
    let serve = handover_hyper::serve(listener, hello).with_graceful(graceful.clone());
    queued.get("/").await;
    graceful.drain();
    let report = tokio::spawn(serve.into_future());
    let (answer, clean) = queued.end().await;
    assert!(clean && answer.ends_with("hello"), "{answer}");
    assert!(report.await.unwrap().unwrap().is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lame_duck_accepts_and_tells() {
    let policy = Policy::default().with_lame_duck(DEADLINE / 2);
    let server = Server::with(policy, |serve| serve).await;
    server.graceful.drain();
    let mut client = server.connect().await;
    client.get("/").await;
    let (answer, clean) = client.end().await;
    assert!(clean && answer.contains("connection: close"), "{answer}");
    let (report, took) = server.drained().await;
    assert!(report.is_complete(), "{report}");
    assert!(took < DEADLINE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_idle_connections_have_limits() {
    let limit = Duration::from_millis(200);
    let server = Server::with(Policy::default(), |serve| {
        serve.header_read_timeout(limit).idle_timeout(limit)
    })
    .await;
    let fresh = server.connect().await;
    let mut slow = server.connect().await;
    slow.send("GET / HT").await;
    let mut idle = server.connect().await;
    idle.get("/").await;
    idle.until("hello").await;
    let mut busy = server.connect().await;
    busy.get("/wait").await;
    for client in [fresh, slow, idle] {
        let (rest, _) = client.end().await;
        assert_eq!(rest, "");
    }
    server.go.add_permits(1);
    busy.until("waited").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_is_told_and_closed() {
    let policy = Policy::default().with_announce(Duration::from_millis(100));
    let server = Server::with(policy, |serve| {
        serve.max_connection_age(Duration::from_millis(100))
    })
    .await;
    let mut told = server.connect().await;
    told.get("/wait").await;
    let idle = server.connect().await;
    assert_eq!(idle.end().await, (String::new(), true));
    server.go.add_permits(1);
    let (answer, _) = told.end().await;
    assert!(answer.contains("connection: close"), "{answer}");
}
