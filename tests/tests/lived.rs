//! What has no end of its own (WebSockets, streams of events) is told of a drain, and does not hold
//! one beyond its deadline.

mod support;

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use handover_tests::{
    harness::{Exit, Server, Signal},
    staying::Staying,
};
use tokio::time::timeout;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

use self::support::{BOUND, Draining, Peer, Way, answers, in_time};

const DEADLINE: Duration = Duration::from_millis(1500);
/// A drain is over this long after its deadline.
const LATE: Duration = Duration::from_millis(100);
/// And this long after the last piece of work.
const SOON: Duration = Duration::from_millis(10);

async fn start(way: Way) -> Server {
    let program = way.program().args(["--deadline", "1.5"]);
    program.start().await.unwrap()
}

/// Opens a WebSocket, without anybody who would answer for it.
async fn open(peer: &mut Peer) {
    peer.send(
        "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await;
    let head = peer.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

async fn a_silent_websocket(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        open(&mut peer).await;
        let drained = Draining::begin(server).await.end().await;
        drained.cut_at(DEADLINE, &["cut 1: WebSocket GET /ws", &peer.name()])
    })
    .await;
}

/// It answers pings, say, and goes on talking.
async fn a_websocket_that_never_answers_the_close(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        open(&mut peer).await;
        let draining = Draining::begin(server).await;
        peer.until("server draining, retry in ").await;
        // An empty pong, masked.
        peer.send([0x8a, 0x80, 0, 0, 0, 0]).await;
        let drained = draining.end().await;
        drained.cut_at(DEADLINE, &["cut 1: WebSocket GET /ws", &peer.name()])
    })
    .await;
}

/// Text frames of a client, one after the other.
fn messages(count: usize) -> Vec<u8> {
    let mut frames = Vec::new();
    for _ in 0..count {
        frames.extend([0x81, 0x80 | 100, 0, 0, 0, 0]);
        frames.extend([b'm'; 100]);
    }
    frames
}

async fn a_websocket_that_does_not_read(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect_small(&server).await;
        open(&mut peer).await;
        peer.stuff_with(&messages(1)).await;
        let drained = Draining::begin(server).await.end().await;
        drained.cut_at(DEADLINE, &["cut 1: WebSocket GET /ws", &peer.name()])
    })
    .await;
}

async fn a_client_that_does_not_read_its_events(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect_small(&server).await;
        peer.get("/sse?ms=1&padding=50000").await;
        peer.is_sent_too_much().await;
        let drained = Draining::begin(server).await.end().await;
        drained.cut_at(DEADLINE, &["GET /sse", &peer.name()])
    })
    .await;
}

async fn a_websocket_is_told_where_to_go(way: Way) {
    for (signal, code) in [
        (Signal::HUP, CloseCode::Restart),
        (Signal::TERM, CloseCode::Away),
    ] {
        let server = start(way).await;
        let stream = Peer::connect(&server).await.into_stream();
        let (mut socket, _) = client_async("ws://handover.test/ws", stream).await.unwrap();
        let old = server.newest().process;
        old.signal(signal).unwrap();
        let close = timeout(BOUND, socket.next()).await.unwrap();
        let Some(Ok(Message::Close(Some(frame)))) = close else {
            panic!("no close but {close:?}")
        };
        assert_eq!(frame.code, code);
        assert!(frame.reason.starts_with("server draining, retry in "));
        assert!(timeout(BOUND, socket.next()).await.unwrap().is_none());
        assert_eq!(old.exit(BOUND).await.unwrap(), Exit::Status(0));
        let report = server.stderr_line("drained in", BOUND).await.unwrap();
        assert!(report.contains("; 1 told to go"), "{report}");
    }
}

/// Asks like an `EventSource`.
async fn ask_for_events(peer: &mut Peer, path: &str) {
    let head = "HTTP/1.1\r\nhost: handover.test\r\naccept: text/event-stream\r\n\r\n";
    peer.send(format!("GET {path} {head}")).await;
}

/// Fails if it gets an error, after which no browser asks again, or no end.
async fn an_event_source_that_comes_in_the_drain_is_served(way: Way) {
    in_time(SOON, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.get("/").await;
        peer.until("ok\n").await;
        let draining = Draining::begin(server).await;
        ask_for_events(&mut peer, "/sse?ms=1000").await;
        let (answer, clean) = peer.end().await;
        let done = Instant::now();
        assert!(clean && answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains("\n: draining\n\n"), "{answer}");
        assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
        draining.end().await.complete_since(done)
    })
    .await;
}

/// Fails if one that was not answered gets a 503.
async fn an_event_source_that_is_cut_comes_back(way: Way) {
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        ask_for_events(&mut peer, "/hold").await;
        peer.taken().await;
        let drained = Draining::begin(server).await.end().await;
        let (answer, clean) = peer.end().await;
        assert!(clean && answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            answer.contains("content-type: text/event-stream\r\n"),
            "{answer}"
        );
        drained.cut_at(DEADLINE, &["GET /hold"])
    })
    .await;
}

/// Whose handler has not read it. The client writes all of it before it reads.
async fn an_upload_that_is_cut_is_answered(way: Way) {
    const BODY: usize = 4 << 20;
    in_time(LATE, async || {
        let server = start(way).await;
        let mut peer = Peer::connect(&server).await;
        peer.has_little_room();
        let head = "POST /hold HTTP/1.1\r\nhost: handover.test\r\ncontent-length: ";
        peer.send(format!("{head}{BODY}\r\n\r\n")).await;
        let body = vec![b'b'; BODY];
        let sending = tokio::spawn(async move {
            let sent = peer.try_send(body).await;
            (peer, sent)
        });
        let draining = Draining::begin(server).await;
        assert!(!sending.is_finished(), "so much has no room in the buffers");
        let drained = draining.end().await;
        let (mut peer, sent) = sending.await.unwrap();
        if let Err(error) = sent {
            println!("{error}: there was no time to read all of it");
            return BOUND;
        }
        let (answer, _) = peer.end().await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        drained.cut_at(DEADLINE, &["POST /hold"])
    })
    .await;
}

const OF_EACH: usize = 100;
/// A hundred of these 200 in a second are what the policy has. A machine that is busy is late with
/// some, and then has more to do in the next; all 200 would be what no policy has.
const NOISY: usize = 150;

/// Fails if a client misses or repeats what it can ask for again, is not told, is told by an error, or
/// if they all come back at a time.
async fn clients_that_stay_miss_nothing_over_five_upgrades(way: Way) {
    let server = way.program().start().await.unwrap();
    let target = server.newest().first_target().unwrap();
    let clients = Staying::start(&target, OF_EACH, Duration::from_millis(100));
    clients.arrived(server.first().pid()).await;
    let _ = clients.take();
    for generation in 1..=5 {
        let old = server.newest().process;
        old.signal(Signal::HUP).unwrap();
        let ready = server.ready(generation, BOUND).await.unwrap();
        answers(&target, &ready).await;
        clients.arrived(ready.pid()).await;
        assert!(matches!(
            old.exit(BOUND).await.unwrap(),
            Exit::Status(0) | Exit::Unknown
        ));
        let seen = clients.take();
        assert_eq!(seen.failures, Vec::<String>::new());
        assert_eq!((seen.codes.len(), seen.ends), (OF_EACH, OF_EACH));
        assert!(
            seen.codes.iter().all(|code| *code == 1012),
            "{:?}",
            seen.codes
        );
        assert_eq!(seen.reconnects.len(), 2 * OF_EACH);
        // The times to come back are drawn, so there is some noise.
        let peak = seen.peak();
        assert!(peak <= NOISY, "{peak} within a second");
        println!("{peak} within a second, {} messages", seen.came);
    }
    let reports: Vec<_> = server.stderr();
    let reports: Vec<_> = reports
        .iter()
        .filter(|line| line.contains("drained in"))
        .collect();
    assert_eq!(reports.len(), 5, "{reports:?}");
    for report in reports {
        let told = report.split_once("; 200 told to go, ");
        let (_, rest) = told.unwrap_or_else(|| panic!("{report}"));
        let (peak, rest) = rest.split_once(" in a second at most").unwrap();
        let peak: usize = peak.parse().unwrap();
        assert!(peak <= NOISY, "{report}");
        assert!(rest.starts_with(" (100 expected)"), "{report}");
    }
}

// actix's own loop closes a WebSocket a second after the last word, whatever its client does.
for_server! {
    ref_actix_web_foreign ActixForeign
    a_client_that_does_not_read_its_events
    a_websocket_is_told_where_to_go
    an_event_source_that_comes_in_the_drain_is_served
    an_event_source_that_is_cut_comes_back
    clients_that_stay_miss_nothing_over_five_upgrades
}

for_each_acceptor! {
    a_silent_websocket,
    a_websocket_that_never_answers_the_close,
    a_websocket_that_does_not_read,
    a_client_that_does_not_read_its_events,
    a_websocket_is_told_where_to_go,
    an_event_source_that_comes_in_the_drain_is_served,
    an_event_source_that_is_cut_comes_back,
    clients_that_stay_miss_nothing_over_five_upgrades,
}

// axum's loop closes such a connection at once.
mod uploads {
    use super::an_upload_that_is_cut_is_answered;

    crate::for_server! { ref_axum Axum an_upload_that_is_cut_is_answered }
    crate::for_server! { ref_warp Warp an_upload_that_is_cut_is_answered }
}
