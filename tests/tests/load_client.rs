//! The load client must see every kind of loss, and none where there is none.

use std::{io, net::SocketAddr, time::Duration};

use handover_tests::{
    load::{
        Clients, Config, Connection, Failure, Kind, Look, Report, Storm, Target, get, get_on,
        stream_byte,
    },
    reference::{Info, router},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener},
    time::{sleep, timeout},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npid=7\nok\n";

/// Runs a storm until `enough` of answers and losses are seen, and stops it.
async fn storm(config: Config, enough: impl Fn(u64, u64) -> bool) -> Report {
    let storm = Storm::start(config);
    let seen = timeout(Duration::from_secs(20), async {
        loop {
            let now = storm.snapshot();
            if enough(now.ok, now.lost) {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let report = storm.stop().await;
    assert!(seen.is_ok(), "not enough came of it within 20 s: {report}");
    report
}

/// A server that does `serve` with each connection.
async fn server<F, Fut>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads up to the end of a request head.
async fn read_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await?);
    }
    Ok(())
}

/// Closes a socket with unread bytes, which sends a reset.
async fn reset(mut stream: TcpStream) -> io::Result<()> {
    stream.read_u8().await.map(drop)
}

/// Reads a request and answers it with `wire`, whatever that is.
async fn answer(mut stream: TcpStream, wire: Vec<u8>) -> io::Result<()> {
    read_head(&mut stream).await?;
    stream.write_all(&wire).await
}

/// Asserts that a storm of `kind` loses requests, and all of them as `failure`.
async fn sees<F, Fut>(kind: Kind, failure: Failure, serve: F)
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut config = Config::new(server(serve).await).with_clients(Clients::only(kind, 2));
    if failure == Failure::Timeout {
        config.timeout = Duration::from_millis(300);
    }
    config.stream = Duration::from_millis(200);
    config.idle_max = Duration::from_millis(20);
    let report = storm(config, |_, lost| lost >= 4).await;
    assert_eq!(report.lost(), report.lost_as(failure), "{report}");
}

#[tokio::test]
async fn sees_a_close_without_an_answer() {
    sees(Kind::Fresh, Failure::FreshEof, |stream| {
        answer(stream, Vec::new())
    })
    .await;
}

#[tokio::test]
async fn sees_a_reset_without_an_answer() {
    sees(Kind::Fresh, Failure::FreshReset, reset).await;
}

#[tokio::test]
async fn sees_a_reset_between_the_pieces_of_a_head() {
    sees(Kind::Dribble, Failure::FreshReset, reset).await;
}

#[tokio::test]
async fn sees_a_close_of_a_reused_connection() {
    sees(
        Kind::Keepalive,
        Failure::ReusedEof,
        |mut stream| async move {
            read_head(&mut stream).await?;
            stream.write_all(OK).await?;
            read_head(&mut stream).await
        },
    )
    .await;
}

#[tokio::test]
async fn sees_a_reset_of_a_reused_connection() {
    sees(Kind::Idle, Failure::ReusedReset, |mut stream| async move {
        read_head(&mut stream).await?;
        stream.write_all(OK).await?;
        reset(stream).await
    })
    .await;
}

#[tokio::test]
async fn sees_a_truncated_body() {
    let wire = &OK[..OK.len() - 1];
    sees(Kind::Fresh, Failure::Truncated, |stream| {
        answer(stream, wire.into())
    })
    .await;
}

#[tokio::test]
async fn sees_a_truncated_head() {
    let wire = &OK[..OK.len() / 2];
    sees(Kind::Keepalive, Failure::Truncated, |stream| {
        answer(stream, wire.into())
    })
    .await;
}

#[tokio::test]
async fn sees_a_missing_last_chunk() {
    let wire = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\npid=7\nok\n\r\n";
    sees(Kind::Slow, Failure::Truncated, |stream| {
        answer(stream, wire.into())
    })
    .await;
}

#[tokio::test]
async fn sees_a_wrong_byte() {
    let mut wire = b"HTTP/1.1 200 OK\r\ncontent-length: 4096\r\n\r\n".to_vec();
    wire.extend((0..4096).map(stream_byte));
    *wire.last_mut().unwrap() += 1;
    sees(Kind::Stream, Failure::BadBody, move |stream| {
        answer(stream, wire.clone())
    })
    .await;
}

#[tokio::test]
async fn sees_a_stream_that_is_complete_and_too_short() {
    let mut wire = b"HTTP/1.1 200 OK\r\ncontent-length: 4095\r\n\r\n".to_vec();
    wire.extend((0..4095).map(stream_byte));
    sees(Kind::Stream, Failure::BadBody, move |stream| {
        answer(stream, wire.clone())
    })
    .await;
}

#[tokio::test]
async fn sees_the_answer_of_another_process() {
    let wire = b"HTTP/1.1 200 OK\r\nx-pid: 8\r\ncontent-length: 9\r\n\r\npid=7\nok\n";
    sees(Kind::Fresh, Failure::BadBody, |stream| {
        answer(stream, wire.into())
    })
    .await;
}

#[tokio::test]
async fn sees_an_upload_that_did_not_arrive_whole() {
    sees(Kind::Upload, Failure::BadBody, |mut stream| async move {
        read_head(&mut stream).await?;
        let mut body = vec![0; 100 * 1024];
        stream.read_exact(&mut body).await?;
        let text = "len=102399 fnv1a=0123456789abcdef\n";
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        stream.write_all(head.as_bytes()).await
    })
    .await;
}

#[tokio::test]
async fn sees_another_status() {
    let wire = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
    sees(Kind::Keepalive, Failure::BadStatus, |stream| {
        answer(stream, wire.into())
    })
    .await;
}

#[tokio::test]
async fn sees_what_is_not_http() {
    sees(Kind::Fresh, Failure::BadStatus, |stream| {
        answer(stream, b"+OK hello\r\n\r\n".into())
    })
    .await;
}

#[tokio::test]
async fn sees_a_server_that_never_answers() {
    sees(Kind::Fresh, Failure::Timeout, |mut stream| async move {
        read_head(&mut stream).await?;
        stream.read_u8().await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn sees_bytes_that_nobody_asked_for() {
    sees(Kind::Idle, Failure::BadBody, |mut stream| async move {
        read_head(&mut stream).await?;
        stream.write_all(OK).await?;
        stream
            .write_all(b"HTTP/1.1 408 Late\r\ncontent-length: 0\r\n\r\n")
            .await?;
        read_head(&mut stream).await
    })
    .await;
}

#[tokio::test]
async fn sees_a_refused_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = Config::new(address).with_clients(Clients::only(Kind::Fresh, 2));
    let report = storm(config, |_, lost| lost >= 4).await;
    assert_eq!(
        report.lost(),
        report.lost_as(Failure::ConnectRefused),
        "{report}"
    );
}

#[tokio::test]
async fn a_missing_unix_socket_is_a_failed_connect() {
    let directory = tempfile::tempdir().unwrap();
    let target = Target::Unix(directory.path().join("none"));
    let loss = get(&target, "/").await.unwrap_err();
    assert_eq!(loss.failure, Failure::ConnectOther);
}

/// Answers once and closes 20 ms later.
async fn close_after_20_ms(mut stream: TcpStream) -> io::Result<()> {
    read_head(&mut stream).await?;
    stream.write_all(OK).await?;
    sleep(Duration::from_millis(20)).await;
    Ok(())
}

#[tokio::test]
async fn a_close_before_the_last_look_is_not_lost() {
    let address = server(|stream| answer(stream, OK.into())).await;
    let mut config = Config::new(address).with_clients(Clients::only(Kind::Keepalive, 4));
    config.keepalive_pause = Duration::from_millis(300);
    let report = storm(config, |ok, _| ok >= 12).await;
    assert_eq!(report.lost(), 0, "{report}");
    assert!(report.found_closed() >= 8, "{report}");
}

#[tokio::test]
async fn a_close_within_the_round_trip_is_lost() {
    let mut config = Config::new(server(close_after_20_ms).await)
        .with_clients(Clients::only(Kind::Keepalive, 4));
    config.rtt = Duration::from_millis(200);
    let report = storm(config, |_, lost| lost >= 8).await;
    let unanswered = report.lost_as(Failure::ReusedEof) + report.lost_as(Failure::ReusedReset);
    assert_eq!(report.lost(), unanswered, "{report}");
}

#[tokio::test]
async fn a_client_that_is_told_to_close_does_so() {
    let address = server(|mut stream| async move {
        read_head(&mut stream).await?;
        let head = b"HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 9\r\n\r\npid=7\nok\n";
        stream.write_all(head).await?;
        // Only the client can end the connection.
        stream.read_u8().await.map(drop)
    })
    .await;
    let config = Config::new(address).with_clients(Clients::only(Kind::Keepalive, 2));
    let report = storm(config, |ok, _| ok >= 9).await;
    assert_eq!((report.lost(), report.found_closed()), (0, 0), "{report}");
    assert_eq!(report.told(), report.requests(), "{report}");
}

/// A correct server, and a storm against it.
async fn correct(generation: u64) -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config::new(listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router(Info::new(generation))).await });
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correct_server_loses_nothing_of_any_kind() {
    let mut config = correct(4).await;
    config.slow = Duration::from_millis(200);
    config.stream = Duration::from_millis(330);
    config.upload = Duration::from_millis(200);
    let storm = Storm::start(config);
    timeout(Duration::from_secs(20), async {
        while storm.snapshot().elapsed < Duration::from_millis(1500) || storm.snapshot().ok < 500 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(storm.snapshot().generation, Some(4));
    let report = storm.stop().await;
    assert_eq!(
        (report.lost(), report.told(), report.found_closed()),
        (0, 0, 0),
        "{report}"
    );
    for kind in Kind::ALL {
        assert!(
            report.kind(kind).is_some_and(|kind| kind.ok > 1),
            "no {kind}: {report}"
        );
    }
    let [generation] = &report.generations[..] else {
        panic!("{:?}", report.generations)
    };
    assert_eq!(generation.pids, [std::process::id()]);
    assert_eq!(generation.answers, report.requests());
}

#[tokio::test]
async fn a_stop_lets_the_request_under_way_finish() {
    let mut config = correct(0).await.with_clients(Clients::only(Kind::Slow, 3));
    config.slow = Duration::from_millis(400);
    let storm = Storm::start(config);
    timeout(Duration::from_secs(5), async {
        while storm.snapshot().begun < 3 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    let report = storm.stop().await;
    assert_eq!((report.requests(), report.lost()), (3, 0), "{report}");
}

#[tokio::test]
async fn one_connection_can_be_asked_by_hand() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async { axum::serve(listener, router(Info::new(9))).await });
    let target = Target::parse(&format!("unix:{}", path.display())).unwrap();
    let mut connection = Connection::open(&target).await.unwrap();
    for _ in 0..2 {
        let answer = get_on(&mut connection, "/").await.unwrap();
        assert_eq!((answer.head.status, answer.head.generation), (200, Some(9)));
        assert_eq!(answer.text(), format!("pid={}\nok\n", std::process::id()));
        assert_eq!(connection.last_look().await, Look::Open);
    }
    let answer = get_on(&mut connection, "/nowhere").await.unwrap();
    assert_eq!(
        (answer.head.status, answer.head.pid),
        (404, Some(std::process::id()))
    );
}
