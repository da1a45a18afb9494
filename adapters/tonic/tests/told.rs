//! Streams that end with a drain do so when their client has been told to go, however many there are.

mod support;

use std::time::{Duration, Instant};

use handover::{Policy, Reason};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::Code;

use self::support::{Call, Server, Way};

/// More than are told at once.
const CONNECTIONS: usize = 160;
const BOUND: Duration = Duration::from_secs(20);

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const WAITS: &str = "/test.Test/Waits";

/// Reads to the end; when GOAWAY came, and the end.
async fn follow(mut call: Call) -> (Instant, Instant) {
    let mut told = None;
    loop {
        tokio::select! {
            biased;
            message = call.message() => {
                if message.is_none() {
                    break;
                }
            }
            () = sleep(Duration::from_millis(10)) => {}
        }
        if told.is_none() && call.is_told().await {
            told = Some(Instant::now());
        }
    }
    let end = Instant::now();
    assert!(call.is_told().await, "its client would begin it again here");
    let (code, message) = call.end().await;
    assert_eq!(code, Code::Unavailable, "{message}");
    assert_eq!(message, "server draining");
    (told.unwrap_or(end), end)
}

async fn begin(server: &Server, path: &str) -> Call {
    let mut call = Call::to(server, path).await;
    assert!(call.message().await.is_some());
    call
}

/// For how long each stream went on when its client had been told.
async fn patience(path: &'static str) -> Vec<Duration> {
    let policy = Policy::default()
        .with_close_spread(Duration::from_millis(200))
        .with_upgrade_deadline(BOUND);
    let server = Server::start(Way::Ours, policy).await;
    let mut calls = JoinSet::new();
    for _ in 0..CONNECTIONS {
        calls.spawn(follow(begin(&server, path).await));
    }
    server.graceful.drain_for(Reason::Upgrade { successor: 1 });
    let seen = timeout(BOUND, calls.join_all()).await.unwrap();
    let report = server.done.await.unwrap();
    assert!(report.is_complete(), "{report}");
    let told = seen.iter().map(|(told, _)| *told);
    let spread = told.clone().max().unwrap() - told.min().unwrap();
    assert!(spread > Duration::from_secs(1), "{spread:?}");
    seen.iter().map(|(told, end)| *end - *told).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_left_to_its_client_for_a_second() {
    let patience = patience(WATCH).await;
    let least = patience.iter().min().unwrap();
    assert!(*least > Duration::from_millis(800), "{patience:?}");
}

/// Their turns would have come long before those of their connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_to_end_does_not_end_before_its_client_was_told() {
    let patience = patience(WAITS).await;
    // Nor is it left alone for long: one at least has had its turn by then.
    let least = patience.iter().min().unwrap();
    assert!(*least < Duration::from_millis(500), "{patience:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_begun_in_a_drain_ends_once_its_client_has_been_told() {
    for path in [WATCH, WAITS] {
        let policy = Policy::default().with_upgrade_deadline(BOUND);
        let server = Server::start(Way::Ours, policy).await;
        let mut calls = Vec::new();
        for _ in 0..CONNECTIONS {
            calls.push(begin(&server, WAITS).await);
        }
        let began = Instant::now();
        server.graceful.drain_for(Reason::Upgrade { successor: 1 });
        // The one that was active last is the last to be told.
        let mut again = calls.pop().unwrap().again(path);
        assert!(again.message().await.is_some());
        let (told, end) = timeout(BOUND, follow(again)).await.unwrap();
        assert!(end - told > Duration::from_millis(800), "{path}");
        assert!(end - began < Duration::from_secs(5), "{path}");
    }
}
