//! What has no end of its own, and how it is told to go.

use std::{convert::Infallible, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use handover::{
    Address, ClosePolicy, Closing, Connection, Draining, Graceful, Kind, Policy, Reason,
};
use http_body::Body;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task};

const SECOND: Duration = Duration::from_secs(1);
const UPGRADE: Reason = Reason::Upgrade { successor: 1 };

fn drained_by(policy: Policy) -> (Graceful, Draining) {
    let graceful = Graceful::with_policy(policy);
    (graceful.clone(), Draining::new(graceful))
}

fn default() -> (Graceful, Draining) {
    drained_by(Policy::default())
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_is_answered_early() {
    let (graceful, draining) = default();
    let _guard = graceful.guard();
    assert_eq!(draining.or(async { 1 }).await, Some(1));
    let mut poll = task::spawn(draining.or(std::future::pending::<u32>()));
    assert_pending!(poll.poll());
    graceful.drain();
    assert_eq!(timeout(SECOND, poll).await.unwrap(), None);
    assert_eq!(
        draining.or(async { 2 }).await,
        Some(2),
        "what is there wins"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_turn_and_gives_what_it_has() {
    let (graceful, draining) = default();
    let _guard = graceful.guard();
    let (send, mut receive) = mpsc::unbounded_channel();
    let inner = stream::poll_fn(move |cx| receive.poll_recv(cx));
    let mut stream = task::spawn(draining.until(inner));
    send.send(1).unwrap();
    assert_ready_eq!(stream.poll_next(), Some(1));
    assert_pending!(stream.poll_next());
    graceful.drain();
    assert!(stream.is_woken());
    assert_pending!(stream.poll_next(), "it is not its turn yet");
    tokio::time::advance(SECOND).await;
    assert!(stream.is_woken());
    send.send(2).unwrap();
    assert_ready_eq!(stream.poll_next(), Some(2));
    assert_ready_eq!(stream.poll_next(), None);
    assert!(send.is_closed(), "what it is made of is free");
}

#[tokio::test(start_paused = true)]
async fn one_that_always_has_an_item_ends_as_well() {
    let (graceful, draining) = default();
    let _guard = graceful.guard();
    let mut stream = pin!(draining.until(stream::repeat(0)));
    assert_eq!(stream.next().await, Some(0));
    graceful.drain();
    assert_eq!(stream.next().await, Some(0), "its order is settled");
    tokio::time::advance(SECOND).await;
    assert_eq!(stream.next().await, Some(0));
    assert_eq!(stream.next().await, None);
}

/// Fails if a body that may end early promises its length.
#[tokio::test(start_paused = true)]
async fn a_body_ends_at_its_turn() {
    let (graceful, draining) = default();
    let _guard = graceful.guard();
    let whole = draining.until(Full::new(Bytes::from_static(b"whole")));
    assert_eq!(whole.size_hint().exact(), None);
    assert_eq!(whole.collect().await.unwrap().to_bytes(), "whole");
    let endless = StreamBody::new(stream::pending::<Result<_, Infallible>>());
    let endless = draining.until(endless.map_frame(|frame: http_body::Frame<Bytes>| frame));
    graceful.drain();
    let ended = timeout(SECOND, endless.collect()).await.unwrap().unwrap();
    assert!(ended.to_bytes().is_empty());
}

/// The end of a stream of events after which its client has seen `sent`.
async fn events_after(sent: &'static [&'static str]) -> String {
    let (graceful, draining) = drained_by(Policy::default().with_retry(2 * SECOND));
    let _guard = graceful.guard();
    let pieces = stream::iter(sent.iter().map(|piece| Ok::<_, Infallible>(*piece)));
    let pieces = pieces.map(|piece| piece.map(Bytes::from));
    let events = draining.events(pieces.chain(stream::pending()));
    graceful.drain();
    let all = timeout(SECOND, events.collect::<Vec<_>>()).await.unwrap();
    let all: String = all
        .into_iter()
        .map(|piece| String::from_utf8(piece.unwrap().into()).unwrap())
        .collect();
    let whole = sent.concat();
    all.strip_prefix(&whole).unwrap().to_owned()
}

/// Fails if the last words are not understood, or make an event of one that has come half.
#[tokio::test(start_paused = true)]
async fn events_end_with_a_retry_wherever_they_are() {
    for (sent, before, after) in [
        (&[][..], "", "\n"),
        (&["data: 1\n\n"], "", "\n"),
        (&["data: 1\r\n\r\n"], "", "\n"),
        (&["data: 1\r", "\n", "\r", "\n"], "", "\n"),
        (&["data: 1\r\r"], "", "\n"),
        (&["d", "ata: 1\n", "\n"], "", "\n"),
        (&["data: 1\n"], "", ""),
        (&["data: 1\r\n"], "", ""),
        (&["data: 1\r", "\n"], "", ""),
        (&["data: 1\n\ndata: 2"], "\n", ""),
        (&["\n\n\n\n"], "", "\n"),
    ] {
        let end = events_after(sent).await;
        let words = end
            .strip_prefix(before)
            .unwrap()
            .strip_suffix(after)
            .unwrap();
        let retry = words.strip_prefix("retry: ").unwrap();
        let retry = retry.strip_suffix("\n: draining\n").unwrap();
        let retry: u64 = retry.parse().unwrap();
        assert!((1000..=2000).contains(&retry), "{sent:?}: {end:?}");
    }
}

/// Fails if one is told to come back that has been told everything.
#[tokio::test]
async fn events_that_end_by_themselves_end_as_ever() {
    let (graceful, draining) = default();
    let pieces = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"data: 1\n\n"))]);
    let events = draining.events(pieces);
    assert_eq!(events.collect::<Vec<_>>().await.len(), 1);
    let _guard = graceful.guard();
    graceful.drain();
    let body = Full::new(Bytes::from_static(b"data: 1\n\n"));
    let events = draining.events(body).collect().await.unwrap();
    assert_eq!(events.to_bytes(), "data: 1\n\n");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_events_ends_with_a_retry() {
    let (graceful, draining) = default();
    let _guard = graceful.guard();
    let body = StreamBody::new(stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>());
    let events = draining.events(body).retry(SECOND / 2);
    graceful.drain();
    let said = timeout(SECOND, events.collect()).await.unwrap().unwrap();
    assert_eq!(said.to_bytes(), "retry: 500\n: draining\n\n");
}

async fn due(closing: &mut Closing) -> (u16, String) {
    let close = std::future::poll_fn(|cx| closing.poll_due(cx)).await;
    (close.code, close.reason)
}

#[tokio::test(start_paused = true)]
async fn a_websocket_is_told_by_whether_somebody_serves_it_next() {
    for (reason, code) in [(UPGRADE, 1012), (Reason::Program, 1001)] {
        let (graceful, draining) = default();
        let mut closing = draining.closing(ClosePolicy::default());
        graceful.drain_for(reason);
        let (said, text) = due(&mut closing).await;
        assert_eq!(said, code);
        let retry = text.strip_prefix("server draining, retry in ").unwrap();
        let retry: f64 = retry.strip_suffix(" s").unwrap().parse().unwrap();
        assert!((1.0..=2.0).contains(&retry), "{text}");
    }
}

/// Fails if a long reason is more than a close frame has room for, or takes the hint's.
#[tokio::test(start_paused = true)]
async fn a_reason_fits_into_its_frame() {
    for (policy, begins, ends) in [
        (
            ClosePolicy::default().with_reason("ä".repeat(100)),
            "ää",
            " s",
        ),
        (ClosePolicy::default().with_reason(""), "retry in ", " s"),
        (
            ClosePolicy::default()
                .with_reason("ä".repeat(100))
                .without_retry_hint(),
            "ää",
            "ä",
        ),
        (
            ClosePolicy::default().without_retry_hint(),
            "server draining",
            "server draining",
        ),
    ] {
        let (graceful, draining) = default();
        let mut closing = draining.closing(policy.with_codes(4001, 4002));
        graceful.drain();
        let (code, text) = due(&mut closing).await;
        assert_eq!(code, 4002);
        assert!(
            text.len() <= 123 && text.starts_with(begins) && text.ends_with(ends),
            "{text}"
        );
    }
}

/// Fails if its time does not begin when it is told, or nobody learns that it was over.
#[tokio::test(start_paused = true)]
async fn a_websocket_has_its_own_time_to_answer() {
    let (graceful, draining) = default();
    let mut closing = draining.closing(ClosePolicy::default().with_limit(3 * SECOND));
    let mut early = task::spawn(std::future::poll_fn(|cx| closing.poll_limit(cx)));
    assert_pending!(early.poll());
    drop(early);
    graceful.drain();
    due(&mut closing).await;
    let told = Instant::now();
    std::future::poll_fn(|cx| {
        assert_pending!(closing.poll_due(cx), "once");
        closing.poll_limit(cx)
    })
    .await;
    assert_eq!(told.elapsed().as_millis() / 10, 300);
    drop(closing);
    let report = graceful.drained().await;
    assert_eq!(
        (report.reconnects.told, report.reconnects.unanswered),
        (1, 1)
    );
    assert!(report.to_string().contains("1 did not answer"), "{report}");
}

/// The writing half of a socket does not wait for the turn, and takes no waker from who does.
#[tokio::test(start_paused = true)]
async fn who_does_not_wait_can_ask() {
    let (graceful, draining) = default();
    let mut closing = draining.closing(ClosePolicy::default());
    assert_eq!(closing.take_due(), None);
    graceful.drain();
    assert_eq!(closing.take_due(), None, "it is not its turn yet");
    tokio::time::advance(SECOND).await;
    assert_eq!(closing.take_due().unwrap().code, 1001);
    assert_eq!(closing.take_due(), None, "once");
    assert!(closing.is_told());
    drop(closing);
    assert_eq!(graceful.drained().await.reconnects.told, 1);
}

#[tokio::test]
async fn a_websocket_holds_the_drain_and_is_named() {
    let (graceful, draining) = default();
    let draining = draining
        .with_request("CONNECT", "/ws")
        .with_peer("10.0.0.3:51234");
    let closing = draining.closing(ClosePolicy::default());
    let holders = graceful.holders();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].kind, Kind::WebSocket);
    let text = holders[0].to_string();
    assert_eq!(text, "WebSocket CONNECT /ws 10.0.0.3:51234, 0.0 s");
    graceful.drain();
    assert!(graceful.report().is_none());
    drop(closing);
    assert!(graceful.report().unwrap().is_complete());
}

/// Fails if a connection that a WebSocket has to itself is listed twice, or by another name.
#[tokio::test]
async fn a_connection_that_became_a_websocket_is_listed_once() {
    let graceful = Graceful::new();
    let peer: std::net::SocketAddr = "10.0.0.3:51234".parse().unwrap();
    let connection = Connection::new(Address::Tcp(peer));
    let holder = connection.hold(&graceful).unwrap();
    connection.begin_request("GET", "/ws");
    let mut request = http::Request::get("/ws").body(()).unwrap();
    request.extensions_mut().insert(graceful.clone());
    request.extensions_mut().insert(connection.clone());
    let (parts, ()) = request.into_parts();
    let closing = Draining::of_parts(&parts).closing(ClosePolicy::default());
    let holders = graceful.holders();
    assert_eq!(holders.len(), 1);
    let text = holders[0].to_string();
    assert_eq!(text, "WebSocket GET /ws 10.0.0.3:51234, 0.0 s");
    drop(closing);
    // Over HTTP/2 it is one of many.
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.version = http::Version::HTTP_2;
    parts.extensions.insert(graceful.clone());
    parts.extensions.insert(connection.clone());
    let _closing = Draining::of_parts(&parts).closing(ClosePolicy::default());
    assert_eq!(graceful.holders().len(), 2);
    drop(holder);
}

#[tokio::test]
async fn a_request_that_nobody_counts_sees_no_drain() {
    let (parts, ()) = http::Request::new(()).into_parts();
    let draining = Draining::of_parts(&parts);
    assert!(!draining.is_begun());
    let mut begun = task::spawn(draining.begun());
    assert_pending!(begun.poll());
    drop(begun);
    draining.graceful().drain();
    assert_ready!(task::spawn(draining.begun()).poll());
}
