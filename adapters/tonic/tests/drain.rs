//! What a drain does with gRPC calls, on our loop and on tonic's.

mod support;

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use handover::{Graceful, Policy, Reason};
use handover_tonic::{
    DrainLayer,
    client::{Retry, RetryLayer},
};
use http::{Request, Response};
use tonic::{Code, Status, body::Body, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::ServiceExt;
use tower_layer::Layer;

use self::support::{Call, DEADLINE, Server, Way};

const LATE: Duration = Duration::from_millis(150);

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

/// A client that connects again when it is told to.
async fn health(server: &Server) -> HealthClient<Retry<Channel>> {
    let endpoint = Channel::from_shared(format!("http://{}", server.addr)).unwrap();
    HealthClient::new(RetryLayer::new().layer(endpoint.connect().await.unwrap()))
}

async fn a_handler_knows_its_peer(way: Way) {
    let server = Server::start(way, Policy::default()).await;
    let mut call = Call::to(&server, "/test.Test/Addresses").await;
    let seen = call.message().await.unwrap();
    assert_eq!(seen, format!("{} {}", server.addr, call.local));
    assert_eq!(call.end().await.0, Code::Ok);
}

async fn a_call_without_an_answer_is_unavailable_at_the_cut(way: Way) {
    let server = Server::start(way, Policy::default()).await;
    let mut call = Call::to(&server, "/test.Test/Never").await;
    server.until_called().await;
    let (report, took) = server.drained().await;
    assert!((DEADLINE..DEADLINE + LATE).contains(&took), "{took:?}");
    assert!(report.to_string().contains("cut 1: POST /test.Test/Never"));
    assert_eq!(call.message().await, None);
    assert_eq!(call.end().await.0, Code::Unavailable);
}

async fn a_stream_that_never_ends_has_trailers_at_the_cut(way: Way) {
    let server = Server::start(way, Policy::default()).await;
    let mut call = Call::to(&server, "/test.Test/Silent").await;
    assert_eq!(call.message().await.as_deref(), Some("first"));
    let (_, took) = server.drained().await;
    assert!((DEADLINE..DEADLINE + LATE).contains(&took), "{took:?}");
    assert_eq!(call.message().await, None);
    let (code, message) = call.end().await;
    assert_eq!(code, Code::Unavailable, "{message}");
    assert!(message.contains("stopped"), "{message}");
}

/// One client reads as fast as it can, the other not at all.
async fn a_stream_that_always_has_another_message_is_cut(way: Way) {
    let server = Server::start(way, Policy::default()).await;
    let mut reads = Call::to(&server, "/test.Test/Flood").await;
    let mut sleeps = Call::to(&server, "/test.Test/Flood").await;
    assert_eq!(reads.message().await.as_deref(), Some("first"));
    assert_eq!(sleeps.message().await.as_deref(), Some("first"));
    let reading = tokio::spawn(async move { while let Some(Ok(_)) = reads.next().await {} });
    let (_, took) = server.drained().await;
    assert!((DEADLINE..DEADLINE + LATE).contains(&took), "{took:?}");
    reading.await.unwrap();
}

async fn a_stream_that_is_to_end_does_so_between_two_messages(way: Way) {
    let policy = Policy::default().with_announce(Duration::from_millis(200));
    let server = Server::start(way, policy).await;
    let mut call = Call::to(&server, "/test.Test/Ticks").await;
    assert_eq!(call.message().await.as_deref(), Some("tick"));
    let reads = tokio::spawn(async move {
        while let Some(message) = call.message().await {
            assert_eq!(message, "tick");
        }
        call.end().await
    });
    let (report, took) = server.drained().await;
    assert!(report.is_complete(), "{report}");
    assert!(took < DEADLINE, "{took:?}");
    let (code, message) = reads.await.unwrap();
    assert_eq!(
        (code, message.as_str()),
        (Code::Unavailable, "server draining")
    );
}

async fn all_services_are_not_serving_when_it_stops(way: Way) {
    let policy = Policy::default().with_lame_duck(DEADLINE / 4);
    let server = Server::start(way, policy).await;
    let mut client = health(&server).await;
    server
        .health
        .set("test.Sick", tonic_health::ServingStatus::NotServing);
    let mut watches = Vec::new();
    for (service, status) in [
        ("", ServingStatus::Serving),
        ("test.Test", ServingStatus::Serving),
        ("test.Sick", ServingStatus::NotServing),
        ("test.Nobody", ServingStatus::ServiceUnknown),
    ] {
        let mut watch = client.watch(check(service)).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), status, "{service:?}");
        watches.push((service, status, watch));
    }
    let unknown = client.check(check("test.Nobody")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let began = Instant::now();
    server.graceful.drain();
    for service in ["", "test.Test", "test.Sick"] {
        let now = client.check(check(service)).await.unwrap().into_inner();
        assert_eq!(now.status(), ServingStatus::NotServing, "{service:?}");
    }
    for (service, status, mut watch) in watches {
        if status == ServingStatus::Serving {
            let next = watch.message().await.unwrap().unwrap();
            assert_eq!(next.status(), ServingStatus::NotServing, "{service:?}");
        }
        let end = watch.message().await.unwrap_err();
        assert_eq!(end.code(), Code::Unavailable, "{service:?}: {end}");
        assert_eq!(end.message(), "server draining");
    }
    drop(client);
    let report = server.done.await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

async fn an_upgrade_ends_watches_and_leaves_the_service_serving(way: Way) {
    let policy = Policy::default()
        .with_announce(Duration::from_millis(200))
        .with_upgrade_deadline(DEADLINE);
    let server = Server::start(way, policy).await;
    let mut client = health(&server).await;
    let mut watch = client.watch(check("")).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let began = Instant::now();
    server.graceful.drain_for(Reason::Upgrade { successor: 1 });
    let end = watch.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    // A client that leaves by itself on GOAWAY has had the time to.
    let open = began.elapsed();
    assert!(open >= DEADLINE / 4, "{open:?}");
    drop(client);
    let report = server.done.await.unwrap();
    assert!(report.is_complete(), "{report}");
}

macro_rules! for_both {
    ($($name:ident),* $(,)?) => {
        mod ours {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Way::Ours).await;
            })*
        }
        mod foreign {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Way::Foreign).await;
            })*
        }
    };
}

for_both!(
    a_handler_knows_its_peer,
    a_call_without_an_answer_is_unavailable_at_the_cut,
    a_stream_that_never_ends_has_trailers_at_the_cut,
    a_stream_that_always_has_another_message_is_cut,
    a_stream_that_is_to_end_does_so_between_two_messages,
    all_services_are_not_serving_when_it_stops,
    an_upgrade_ends_watches_and_leaves_the_service_serving,
);

/// When this fails, the definitions of tonic-health have it: answer it, and say so in the book.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_all_health_is_unimplemented() {
    let server = Server::start(Way::Ours, Policy::default()).await;
    let mut call = Call::to(&server, "/grpc.health.v1.Health/List").await;
    assert_eq!(call.message().await, None);
    assert_eq!(call.end().await.0, Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_s_time_limit_is_kept() {
    let server = Server::start(Way::Ours, Policy::default()).await;
    let mut call = Call::within(&server, "/test.Test/Never", "50m").await;
    assert_eq!(call.message().await, None);
    assert_eq!(call.end().await.0, Code::DeadlineExceeded);
}

#[tokio::test]
async fn what_it_is_told_to_refuse_is_told_when_to_come_back() {
    let graceful = Graceful::new();
    let _open = graceful.guard();
    let layer =
        DrainLayer::new(graceful.clone()).refuse_while_draining(Duration::from_millis(1500));
    let service = layer.layer(tower::service_fn(async |_: Request<Body>| {
        Ok::<_, Infallible>(Response::new(String::from("seen")))
    }));
    let call = |path: &str| {
        service
            .clone()
            .oneshot(Request::post(path).body(Body::empty()).unwrap())
    };
    let code = |response: &Response<_>| Status::from_header_map(response.headers());
    assert!(code(&call("/test.Test/Any").await.unwrap()).is_none());
    graceful.drain();
    let refused = call("/test.Test/Any").await.unwrap();
    assert_eq!(code(&refused).unwrap().code(), Code::Unavailable);
    assert_eq!(refused.headers()["grpc-retry-pushback-ms"], "1500");
    for path in [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/Any",
    ] {
        assert!(code(&call(path).await.unwrap()).is_none(), "{path}");
    }
}
