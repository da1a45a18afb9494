//! SIGTERM ends a process in time, whatever state its connections are in.
//!
//! Each test brings one connection into one state, sends SIGTERM to a real server, and times the
//! end of the process by its pidfd: what has work left is cut at the deadline and named in the
//! report, what has none ends the drain as soon as it is gone.

mod support;

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use handover_tests::{
    harness::{Server, Signal, eventually},
    load::get,
};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

use self::support::{BOUND, Draining, Peer, Sees, Way, in_time};

const DEADLINE: Duration = Duration::from_millis(1500);
/// When idle connections are closed at the latest: four fifths of the deadline.
const WINDOW: Duration = Duration::from_millis(1200);
/// A drain is over this long after its deadline.
const LATE: Duration = Duration::from_millis(100);
/// And this long after the last piece of work.
const SOON: Duration = Duration::from_millis(10);

async fn start(way: Way) -> Server {
    let program = way.program().args(["--deadline", "1.5"]);
    program.start().await.unwrap()
}

/// A connection that has sent `bytes`, which the server has read.
async fn having_sent(way: Way, bytes: &str) -> (Server, Peer) {
    let server = start(way).await;
    let mut peer = Peer::connect(&server).await;
    peer.send(bytes).await;
    peer.taken().await;
    (server, peer)
}

/// Nobody waits for this connection: it is closed within the window, cleanly.
async fn is_closed_in_the_window(server: Server, mut peer: Peer) -> Duration {
    let drained = Draining::begin(server).await.end().await;
    assert_eq!(peer.end().await, (String::new(), true));
    drained.complete_since(drained.ended);
    drained.took.saturating_sub(WINDOW)
}

/// The client of this connection is waited for up to the deadline.
async fn is_cut(server: Server, mut peer: Peer, names: &[&str]) -> Duration {
    let drained = Draining::begin(server).await.end().await;
    peer.end().await;
    drained.cut_at(DEADLINE, names)
}

async fn nothing_open(way: Way) {
    in_time(SOON, async || {
        let drained = Draining::begin(start(way).await).await.end().await;
        drained.complete_since(drained.ended);
        drained.took
    })
    .await;
}

async fn no_byte(way: Way) {
    in_time(SOON, async || {
        let (server, peer) = having_sent(way, "").await;
        is_closed_in_the_window(server, peer).await
    })
    .await;
}

async fn half_a_preface(way: Way) {
    if way.sees() == Sees::Requests {
        return http2_is_refused(way, "PRI * HTTP/2.0\r\n\r\nS").await;
    }
    in_time(SOON, async || {
        let (server, peer) = having_sent(way, "PRI * HTTP/2.0\r\n\r\nS").await;
        is_closed_in_the_window(server, peer).await
    })
    .await;
}

/// A server that speaks HTTP/1 alone says so at once, and has nothing to drain.
async fn http2_is_refused(way: Way, preface: &str) {
    in_time(SOON, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.send(preface).await;
        let (answer, clean) = peer.end().await;
        assert!(clean && answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
        let drained = Draining::begin(server).await.end().await;
        drained.complete_since(drained.ended);
        drained.took
    })
    .await;
}

async fn half_a_head_is_cut(way: Way, before: &str, half: &str) {
    in_time(LATE, async || {
        let (server, peer) = having_sent_half_a_head(way, before, half).await;
        let name = peer.name();
        let kind = match way.sees() {
            Sees::Messages => "cut 1: half a request head",
            _ => "cut 1: request",
        };
        is_cut(server, peer, &[kind, &name]).await
    })
    .await;
}

/// Where half a head is not seen, or the framework's loop closes a connection with what is in its
/// buffer.
async fn half_a_head_is_closed(way: Way, before: &str, half: &str) {
    in_time(SOON, async || {
        let (server, peer) = having_sent_half_a_head(way, before, half).await;
        is_closed_in_the_window(server, peer).await
    })
    .await;
}

async fn having_sent_half_a_head(way: Way, before: &str, half: &str) -> (Server, Peer) {
    let (server, mut peer) = having_sent(way, before).await;
    if !before.is_empty() {
        peer.until("ok\n").await;
    }
    peer.send(half).await;
    peer.taken().await;
    (server, peer)
}

async fn half_a_first_head(way: Way, half: &str) {
    match way.sees() {
        Sees::Messages | Sees::Bytes => half_a_head_is_cut(way, "", half).await,
        Sees::Requests => half_a_head_is_closed(way, "", half).await,
    }
}

async fn half_a_request_line(way: Way) {
    half_a_first_head(way, "GET /slo").await;
}

async fn half_the_headers(way: Way) {
    half_a_first_head(way, "GET / HTTP/1.1\r\nhost: handover.te").await;
}

async fn half_a_second_head(way: Way) {
    let first = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let half = "GET / HTTP/1.1\r\nho";
    match way.sees() {
        Sees::Messages => half_a_head_is_cut(way, first, half).await,
        Sees::Bytes | Sees::Requests => half_a_head_is_closed(way, first, half).await,
    }
}

/// Whoever finishes a head during the drain is answered, and told.
async fn half_a_head_that_is_finished(way: Way) {
    in_time(SOON, async || {
        let (server, mut peer) = having_sent(way, "GET / HTTP/1.1\r\nho").await;
        let draining = Draining::begin(server).await;
        peer.send("st: x\r\n\r\n").await;
        let (answer, clean) = peer.end().await;
        let done = Instant::now();
        assert!(clean && answer.ends_with("ok\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        draining.end().await.complete_since(done)
    })
    .await;
}

async fn a_handler_that_never_ends(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/hold").await;
        peer.taken().await;
        let drained = Draining::begin(server).await.end().await;
        let (answer, clean) = peer.end().await;
        assert!(clean && answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        drained.cut_at(DEADLINE, &["GET /hold"])
    })
    .await;
}

async fn a_body_that_never_ends(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/hang-body").await;
        peer.until("\r\n\r\n").await;
        let drained = Draining::begin(server).await.end().await;
        let (rest, _) = peer.end().await;
        assert!(
            !rest.contains("0\r\n"),
            "it must not look complete: {rest:?}"
        );
        drained.cut_at(DEADLINE, &["GET /hang-body"])
    })
    .await;
}

async fn unread_requests_behind_one_that_never_ends(way: Way) {
    for path in ["/hold", "/hang-body"] {
        in_time(LATE, async || {
            let server = start(way).await;
            let mut peer = Peer::connect(&server).await;
            peer.get(path).await;
            peer.taken().await;
            for _ in 0..50 {
                peer.get("/").await;
            }
            is_cut(server, peer, &[&format!("GET {path}")]).await
        })
        .await;
    }
}

async fn a_client_that_never_reads(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect_small(&server).await;
        peer.stuff().await;
        let drained = Draining::begin(server).await.end().await;
        drained.cut_at(DEADLINE, &["cut 1: ", &peer.name()])
    })
    .await;
}

async fn a_client_that_reads_no_stream(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect_small(&server).await;
        peer.get("/stream?secs=60").await;
        peer.taken().await;
        let drained = Draining::begin(server).await.end().await;
        drained.cut_at(DEADLINE, &["GET /stream"])
    })
    .await;
}

async fn a_stalled_upload(way: Way) {
    in_time(LATE, async || {
        let half = "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf";
        let (server, mut peer) = having_sent(way, half).await;
        let drained = Draining::begin(server).await.end().await;
        let (answer, _) = peer.end().await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        drained.cut_at(DEADLINE, &["POST /upload"])
    })
    .await;
}

async fn an_upload_under_way_is_finished(way: Way) {
    in_time(SOON, async || {
        let half = "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nhalf";
        let (server, mut peer) = having_sent(way, half).await;
        let draining = Draining::begin(server).await;
        peer.send("half").await;
        let (answer, clean) = peer.end().await;
        let done = Instant::now();
        assert!(clean && answer.contains("\r\n\r\nlen=8 fnv1a="), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        draining.end().await.complete_since(done)
    })
    .await;
}

async fn a_request_under_way_is_answered(way: Way) {
    in_time(SOON, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/slow?ms=1000").await;
        peer.taken().await;
        let draining = Draining::begin(server).await;
        let (answer, clean) = peer.end().await;
        let done = Instant::now();
        assert!(clean && answer.ends_with("ok\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        draining.end().await.complete_since(done)
    })
    .await;
}

async fn a_stream_under_way_is_complete(way: Way) {
    in_time(SOON, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/stream?secs=0.5").await;
        peer.until("abc").await;
        let draining = Draining::begin(server).await;
        let body = peer.until("0\r\n\r\n").await;
        let letters = body.matches(|c: char| c.is_ascii_lowercase());
        // Chunk sizes are hexadecimal, but 1024 is 400.
        assert!(letters.count() >= 9 * 1024, "{} bytes", body.len());
        drop(peer);
        let done = Instant::now();
        draining.end().await.complete_since(done)
    })
    .await;
}

async fn events_end_as_advised(way: Way) {
    in_time(SOON, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/sse?ms=5").await;
        peer.until("\n\n").await;
        let draining = Draining::begin(server).await;
        let last = peer.until("0\r\n\r\n").await;
        drop(peer);
        let done = Instant::now();
        assert!(last.contains("retry:"), "{last}");
        draining.end().await.complete_since(done)
    })
    .await;
}

async fn an_idle_connection(way: Way) {
    in_time(SOON, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/").await;
        peer.until("ok\n").await;
        is_closed_in_the_window(server, peer).await
    })
    .await;
}

/// It is told, and no request is lost: the one after the signal is served.
async fn an_idle_connection_that_is_used_again(way: Way) {
    in_time(SOON, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/").await;
        let answer = peer.until("ok\n").await;
        assert!(!answer.contains("connection: close"), "{answer}");
        let draining = Draining::begin(server).await;
        // The pause of an idle client: the connection has to outlast it.
        sleep(WINDOW / 4).await;
        peer.get("/").await;
        let (answer, clean) = peer.end().await;
        let done = Instant::now();
        assert!(clean && answer.ends_with("ok\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        draining.end().await.complete_since(done)
    })
    .await;
}

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty one, as a client begins with.
const SETTINGS: &str = "\0\0\0\x04\0\0\0\0\0";
const GOAWAY: u8 = 7;

/// It is told by GOAWAY and a PING, and has no say in when the drain ends.
async fn an_http2_peer_that_never_answers_the_ping(way: Way) {
    if way.sees() == Sees::Requests {
        return http2_is_refused(way, PREFACE).await;
    }
    in_time(LATE, async || {
        let (server, mut peer) = having_sent(way, &format!("{PREFACE}{SETTINGS}")).await;
        let draining = Draining::begin(server).await;
        let mut last_streams = Vec::new();
        while let Ok((kind, payload)) = peer.frame().await {
            if kind == GOAWAY {
                last_streams.push(u32::from_be_bytes(payload[..4].try_into().unwrap()));
            }
        }
        assert_eq!(last_streams.first(), Some(&(u32::MAX >> 1)));
        let drained = draining.end().await;
        drained.complete_since(drained.ended);
        drained.took.saturating_sub(match way.is_foreign() {
            false => WINDOW,
            // axum's loop waits for the answer; nobody waits for the connection, though.
            true => DEADLINE,
        })
    })
    .await;
}

async fn an_http2_request_under_way(way: Way) {
    if way.sees() == Sees::Requests {
        return http2_is_refused(way, PREFACE).await;
    }
    in_time(SOON, async || {
        let server = start(way).await;
        let peer = Peer::connect(&server).await;
        let (client, connection) = h2::client::handshake(peer.into_stream()).await.unwrap();
        let connection = tokio::spawn(connection);
        let uri = "http://handover.test/slow?ms=1000";
        let request = http::Request::get(uri).body(()).unwrap();
        let mut client = client.ready().await.unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        // A second stream that is answered: the first has arrived, too.
        let mut client = client.ready().await.unwrap();
        let request = http::Request::get("http://handover.test/")
            .body(())
            .unwrap();
        let (first, _) = client.send_request(request, true).unwrap();
        assert_eq!(first.await.unwrap().status(), 200);
        let draining = Draining::begin(server).await;
        let response = timeout(BOUND, response).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let bytes = body.data().await.unwrap().unwrap();
        assert!(bytes.ends_with(b"ok\n"), "{bytes:?}");
        drop((body, client));
        let _ = timeout(BOUND, connection).await.unwrap().unwrap();
        let done = Instant::now();
        draining.end().await.complete_since(done)
    })
    .await;
}

async fn a_websocket_is_closed_with_a_code(way: Way) {
    in_time(SOON, async || {
        let server = start(way).await;
        let stream = Peer::connect(&server).await.into_stream();
        let (mut socket, _) = client_async("ws://handover.test/ws", stream).await.unwrap();
        let draining = Draining::begin(server).await;
        let close = timeout(BOUND, socket.next()).await.unwrap();
        let Some(Ok(Message::Close(Some(frame)))) = close else {
            panic!("no close but {close:?}")
        };
        assert_eq!(frame.code, CloseCode::Away);
        // Reading on answers the close.
        assert!(timeout(BOUND, socket.next()).await.unwrap().is_none());
        let done = Instant::now();
        draining.end().await.complete_since(done)
    })
    .await;
}

async fn a_websocket_whose_client_never_answers(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let stream = Peer::connect(&server).await.into_stream();
        let (socket, _) = client_async("ws://handover.test/ws", stream).await.unwrap();
        let drained = Draining::begin(server).await.end().await;
        drop(socket);
        let began = drained.ended - drained.took;
        match way.sees() {
            Sees::Messages | Sees::Bytes => drained.cut_at(DEADLINE, &["WebSocket GET /ws"]),
            // actix's loop closes it a second after the last word.
            Sees::Requests => drained.complete_since(began + Duration::from_secs(1)),
        }
    })
    .await;
}

async fn a_second_signal_cuts(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/hold").await;
        peer.taken().await;
        let draining = Draining::begin(server).await;
        let again = Instant::now();
        draining.signal(Signal::TERM);
        let drained = draining.end().await;
        drained.cut_at(Duration::ZERO, &["GET /hold"]);
        drained.ended - again
    })
    .await;
}

async fn usr2_cuts_a_drain_and_nothing_else(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/hold").await;
        peer.taken().await;
        server.first().signal(Signal::USR2).unwrap();
        server.stderr_line("ignored", BOUND).await.unwrap();
        let target = server.newest().first_target().unwrap();
        assert_eq!(get(&target, "/").await.unwrap().head.status, 200);
        let draining = Draining::begin(server).await;
        let then = Instant::now();
        draining.signal(Signal::USR2);
        let drained = draining.end().await;
        drained.cut_at(Duration::ZERO, &["GET /hold"]);
        drained.ended - then
    })
    .await;
}

async fn a_lame_duck_serves_and_tells(way: Way) {
    let program = way
        .program()
        .args(["--deadline", "1.5", "--lame-duck", "0.5"]);
    let server = program.start().await.unwrap();
    let target = server.newest().first_target().unwrap();
    let mut held = Peer::connect(&server).await;
    held.get("/slow?ms=1000").await;
    held.taken().await;
    let draining = Draining::begin(server).await;
    let answer = get(&target, "/").await.unwrap();
    assert_eq!((answer.head.status, answer.head.close), (200, true));
    eventually("new connections to be refused", BOUND, async || {
        target.connect().await.err()
    })
    .await
    .unwrap();
    let (answer, clean) = held.end().await;
    assert!(clean && answer.ends_with("ok\n"), "{answer}");
    let drained = draining.end().await;
    drained.complete_since(drained.ended);
}

/// What has been accepted by the kernel and not yet by the server is served, too.
async fn the_kernels_queue_is_served(way: Way) {
    let server = start(way).await;
    let target = server.newest().first_target().unwrap();
    // The accept loop runs by now; and nobody accepts while the process is stopped.
    assert_eq!(get(&target, "/").await.unwrap().head.status, 200);
    server.first().signal(Signal::STOP).unwrap();
    let mut peers = Vec::new();
    for _ in 0..20 {
        let mut peer = Peer::connect(&server).await;
        peer.get("/").await;
        peers.push(peer);
    }
    server.first().signal(Signal::TERM).unwrap();
    server.first().signal(Signal::CONT).unwrap();
    for mut peer in peers {
        let (answer, clean) = peer.end().await;
        assert!(clean && answer.ends_with("ok\n"), "{answer:?}");
    }
    let exit = server.first().exit(BOUND).await.unwrap();
    assert!(exit.is_success(), "{exit}");
    assert!(target.connect().await.is_err());
}

/// Both requests have been read when the drain begins, and the first has not been answered.
async fn the_second_request_of_a_pipeline_is_answered(way: Way) {
    in_time(SOON, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        let both = "GET /slow?ms=700 HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n";
        peer.send(both).await;
        peer.taken().await;
        let draining = Draining::begin(server).await;
        let (answers, clean) = peer.end().await;
        let done = Instant::now();
        assert!(clean, "a reset after {answers:?}");
        let answered = answers.matches("HTTP/1.1 200 OK\r\n").count();
        match answers.find("connection: close\r\n") {
            // The first one said that it would be the last: the client sends the other elsewhere.
            Some(told) if answered == 1 => {
                assert!(told < answers.find("\r\n\r\n").unwrap(), "{answers}");
            }
            told => assert!(answered == 2 && told.is_some(), "{answers}"),
        }
        draining.end().await.complete_since(done)
    })
    .await;
}

/// It lies in the kernel's buffer of an idle connection when the signal comes.
async fn a_request_that_was_just_written_is_answered(way: Way) {
    in_time(SOON, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/").await;
        peer.until("ok\n").await;
        let process = server.first().clone();
        process.signal(Signal::STOP).unwrap();
        peer.get("/").await;
        process.signal(Signal::TERM).unwrap();
        process.signal(Signal::CONT).unwrap();
        let (answer, clean) = peer.end().await;
        let done = Instant::now();
        assert!(clean && answer.ends_with("ok\n"), "{answer:?}");
        let exit = process.exit(BOUND).await.unwrap();
        assert!(exit.is_success(), "{exit}");
        done.elapsed()
    })
    .await;
}

#[test]
fn the_table_has_every_server_with_this_surface() {
    let bins = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin");
    let mut there: Vec<_> = std::fs::read_dir(bins)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().path().file_stem()?.to_str()?.to_owned()))
        .filter(|name| name.starts_with("ref-") && !name.starts_with("ref-tonic"))
        .collect();
    let mut rows = Way::ALL.map(|way| way.path().file_name().unwrap().to_str().unwrap());
    there.sort_unstable();
    rows.sort_unstable();
    assert_eq!(there, rows);
}

for_each_server! {
    the_second_request_of_a_pipeline_is_answered,
    a_request_that_was_just_written_is_answered,
    nothing_open,
    no_byte,
    half_a_preface,
    half_a_request_line,
    half_the_headers,
    half_a_second_head,
    half_a_head_that_is_finished,
    a_handler_that_never_ends,
    a_body_that_never_ends,
    unread_requests_behind_one_that_never_ends,
    a_client_that_never_reads,
    a_client_that_reads_no_stream,
    a_stalled_upload,
    an_upload_under_way_is_finished,
    a_request_under_way_is_answered,
    a_stream_under_way_is_complete,
    events_end_as_advised,
    an_idle_connection,
    an_idle_connection_that_is_used_again,
    an_http2_peer_that_never_answers_the_ping,
    an_http2_request_under_way,
    a_websocket_is_closed_with_a_code,
    a_websocket_whose_client_never_answers,
    a_second_signal_cuts,
    usr2_cuts_a_drain_and_nothing_else,
    a_lame_duck_serves_and_tells,
    the_kernels_queue_is_served,
}
