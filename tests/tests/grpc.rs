//! The gRPC reference servers answer, end on time whatever their clients do, and are replaced.

mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::stream;
use handover_tests::{
    harness::{Exit, Program, Server, Signal, eventually},
    reference::pb::{ChatMessage, TicksRequest, UnaryRequest, echo_client::EchoClient},
};
use tokio::time::timeout;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt;

use self::support::{BOUND, Draining, Peer, directory, in_time};

const DEADLINE: Duration = Duration::from_millis(1500);
/// When idle connections are closed at the latest: four fifths of the deadline.
const WINDOW: Duration = Duration::from_millis(1200);
const LATE: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_millis(50);
/// A process is gone this long after the window at which nobody is waited for any more.
const AT_ONCE: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// On Handover's own serve loop.
    Ours,
    /// On tonic's.
    Foreign,
}

impl Way {
    fn program(self) -> Program {
        let program = match self {
            Way::Ours => env!("CARGO_BIN_EXE_ref-tonic"),
            Way::Foreign => env!("CARGO_BIN_EXE_ref-tonic-foreign"),
        };
        Program::new(program).args(["--workers", "2", "--listen", "127.0.0.1:0"])
    }

    async fn start(self) -> Server {
        let program = self.program().args(["--deadline", "1.5"]);
        program.start().await.unwrap()
    }
}

async fn connect(server: &Server) -> Channel {
    let address = format!("http://{}", server.newest().tcp().unwrap());
    Channel::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap()
}

async fn everything_is_answered(way: Way) {
    let server = way.start().await;
    let channel = connect(&server).await;
    let pid = server.newest().pid();
    let mut echo = EchoClient::new(channel.clone());
    let request = UnaryRequest {
        message: "hello".into(),
        delay_ms: 1,
    };
    let reply = echo.unary(request).await.unwrap();
    assert_eq!(reply.metadata().get("x-pid").unwrap(), &pid.to_string());
    let reply = reply.into_inner();
    assert_eq!((reply.message.as_str(), reply.pid), ("hello", pid));

    let request = TicksRequest {
        count: 3,
        interval_ms: 1,
    };
    let mut ticks = echo.ticks(request).await.unwrap().into_inner();
    for index in 0..3 {
        let tick = ticks.message().await.unwrap().unwrap();
        assert_eq!((tick.index, tick.pid), (index, pid));
    }
    assert_eq!(ticks.message().await.unwrap(), None);

    let messages = ["a", "b"].map(|text| ChatMessage {
        message: text.into(),
        pid: 0,
    });
    let mut chat = echo
        .chat(stream::iter(messages))
        .await
        .unwrap()
        .into_inner();
    for text in ["a", "b"] {
        let message = chat.message().await.unwrap().unwrap();
        assert_eq!((message.message.as_str(), message.pid), (text, pid));
    }
    assert_eq!(chat.message().await.unwrap(), None);

    let mut health = HealthClient::new(channel.clone());
    let status = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(status.into_inner().status(), ServingStatus::Serving);

    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection.server_reflection_info(stream::iter([asked]));
    let answer = answers.await.unwrap().into_inner().message().await;
    let Some(MessageResponse::ListServicesResponse(list)) =
        answer.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = list.service.iter().map(|service| &service.name).collect();
    assert!(
        names.contains(&&"handover.reference.v1.Echo".to_owned()),
        "{names:?}"
    );
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
}

/// Nobody waits for this connection beyond the window, or the deadline on tonic's loop.
async fn a_silent_peer(way: Way, sent: &str) {
    let bound = match way {
        Way::Ours => AT_ONCE,
        Way::Foreign => LATE,
    };
    in_time(bound, async || {
        let server = way.start().await;
        let mut peer = Peer::connect(&server).await;
        peer.send(sent).await;
        peer.taken().await;
        let drained = Draining::begin(server).await.end().await;
        peer.end().await;
        match way {
            Way::Ours => {
                drained.complete_since(drained.ended);
                drained.took.saturating_sub(WINDOW)
            }
            Way::Foreign => drained.took.saturating_sub(DEADLINE),
        }
    })
    .await;
}

async fn a_peer_without_a_preface(way: Way) {
    a_silent_peer(way, "").await;
}

async fn a_peer_with_half_a_preface(way: Way) {
    a_silent_peer(way, "PRI * HTTP/2.0\r\n\r\nS").await;
}

async fn a_peer_that_never_answers_the_ping(way: Way) {
    a_silent_peer(way, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
}

/// They are ended, and hold nobody up.
async fn open_watches_and_reflection_streams(way: Way) {
    in_time(2 * SOON, async || {
        let server = way.start().await;
        let channel = connect(&server).await;
        let mut health = HealthClient::new(channel.clone());
        let watch = health.watch(HealthCheckRequest::default()).await;
        let mut watch = watch.unwrap().into_inner();
        assert_eq!(
            watch.message().await.unwrap().unwrap().status(),
            ServingStatus::Serving
        );
        let mut reflection = ServerReflectionClient::new(channel.clone());
        let open = reflection.server_reflection_info(stream::pending()).await;
        let mut open = open.unwrap().into_inner();
        drop((channel, health, reflection));
        let draining = Draining::begin(server).await;
        let next = timeout(BOUND, watch.message()).await.unwrap();
        assert_eq!(next.unwrap().unwrap().status(), ServingStatus::NotServing);
        let ends = [
            timeout(BOUND, watch.message()).await.unwrap().unwrap_err(),
            timeout(BOUND, open.message()).await.unwrap().unwrap_err(),
        ];
        for end in ends {
            assert_eq!(
                (end.code(), end.message()),
                (Code::Unavailable, "server draining")
            );
        }
        let done = Instant::now();
        draining.end().await.complete_since(done)
    })
    .await;
}

/// It ends politely, and says when to come back.
async fn an_endless_stream(way: Way) {
    in_time(2 * SOON, async || {
        let server = way.start().await;
        let mut echo = EchoClient::new(connect(&server).await);
        let request = TicksRequest {
            count: 0,
            interval_ms: 10,
        };
        let mut ticks = echo.ticks(request).await.unwrap().into_inner();
        ticks.message().await.unwrap().unwrap();
        drop(echo);
        let draining = Draining::begin(server).await;
        let end = loop {
            match timeout(BOUND, ticks.message()).await.unwrap() {
                Ok(tick) => assert!(tick.is_some(), "OK is not the truth"),
                Err(end) => break end,
            }
        };
        let done = Instant::now();
        assert_eq!(
            (end.code(), end.message()),
            (Code::Unavailable, "server draining")
        );
        assert!(end.get_details_retry_info().is_some(), "{end:?}");
        draining.end().await.complete_since(done)
    })
    .await;
}

async fn a_call_that_never_ends(way: Way) {
    in_time(LATE, async || {
        let server = way.start().await;
        let mut echo = EchoClient::new(connect(&server).await);
        let mut other = echo.clone();
        let slow = UnaryRequest {
            delay_ms: u32::MAX,
            ..UnaryRequest::default()
        };
        let call = tokio::spawn(async move { echo.unary(slow).await });
        tokio::task::yield_now().await;
        // On the same connection, after the first one.
        other.unary(UnaryRequest::default()).await.unwrap();
        let drained = Draining::begin(server).await.end().await;
        let end = call.await.unwrap().unwrap_err();
        // A status of gRPC's own: a 503, which a client takes for the same code, has no words.
        assert_eq!(
            (end.code(), end.message()),
            (
                Code::Unavailable,
                "server stopped before the call was finished"
            )
        );
        drained.cut_at(DEADLINE, &["POST /handover.reference.v1.Echo/Unary"])
    })
    .await;
}

/// Its successor fails; the calls go on.
async fn a_successor_that_fails(way: Way) {
    let (_kept, path) = directory();
    let fault = path("fault");
    let program = way.program().arg("--fault-file").arg(&fault);
    let server = program.start().await.unwrap();
    let pid = server.newest().pid();
    let mut echo = EchoClient::new(connect(&server).await);
    fs::write(&fault, "exit-before-ready").unwrap();
    server.first().signal(Signal::HUP).unwrap();
    server
        .stderr_line("upgrade failed, serving on", BOUND)
        .await
        .unwrap();
    let reply = echo.unary(UnaryRequest::default()).await.unwrap();
    assert_eq!(reply.get_ref().pid, pid);

    fs::write(&fault, "exit-after-ready 100").unwrap();
    server.first().signal(Signal::HUP).unwrap();
    let failed = server.ready(1, BOUND).await.unwrap();
    failed.process.exit(BOUND).await.unwrap();
    server.stderr_line("serving again", BOUND).await.unwrap();
    // A new connection: the open one may have been told to go.
    let mut echo = EchoClient::new(connect(&server).await);
    let reply = echo.unary(UnaryRequest::default()).await.unwrap();
    assert_eq!(reply.get_ref().pid, pid);

    fs::write(&fault, "").unwrap();
    server.first().signal(Signal::HUP).unwrap();
    // The number of the one that failed is given again.
    let third = eventually("a third process", BOUND, async || {
        server.generations().into_iter().nth(2)
    });
    let next = third.await.unwrap();
    assert_eq!(server.first().exit(BOUND).await.unwrap(), Exit::Status(0));
    let mut echo = EchoClient::new(connect(&server).await);
    let reply = echo.unary(UnaryRequest::default()).await.unwrap();
    assert_eq!(reply.get_ref().pid, next.pid());
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
}

macro_rules! for_both {
    ($($name:ident),* $(,)?) => {
        mod ref_tonic {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Way::Ours).await;
            })*
        }
        mod ref_tonic_foreign {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Way::Foreign).await;
            })*
        }
    };
}

for_both!(
    everything_is_answered,
    a_peer_without_a_preface,
    a_peer_with_half_a_preface,
    a_peer_that_never_answers_the_ping,
    open_watches_and_reflection_streams,
    an_endless_stream,
    a_call_that_never_ends,
    a_successor_that_fails,
);
