//! What the layer promises, by polls.
#![cfg(feature = "layer")]

use std::{
    convert::Infallible,
    future::{Future, pending, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use handover::{Graceful, GracefulLayer, GracefulService, HealthLayer, Kind, health::Health};
use http::{Request, Response, StatusCode, Version, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, task};
use tower::{Layer, Service, service_fn};

type Answer = Result<Response<Full<Bytes>>, Infallible>;

fn layered<F, R>(graceful: &Graceful, handler: F) -> GracefulService<tower::util::ServiceFn<F>>
where
    F: FnMut(Request<()>) -> R,
    R: Future,
{
    GracefulLayer::new(graceful.clone()).layer(service_fn(handler))
}

fn hello() -> Answer {
    Ok(Response::new(Full::from("hello")))
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

#[tokio::test]
async fn a_drain_waits_for_the_response_body() {
    let graceful = Graceful::new();
    let mut service = layered(&graceful, |_| ready(hello()));
    let mut drained = task::spawn(graceful.drained());
    let response = service.call(get("/")).await.unwrap();
    graceful.drain();
    assert_pending!(drained.poll(), "the head is out, the body is not");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "hello");
    assert!(drained.is_woken());
    assert_ready!(drained.poll());
}

#[tokio::test]
async fn a_request_that_is_dropped_is_over() {
    let graceful = Graceful::new();
    let mut service = layered(&graceful, |_| pending::<Answer>());
    let mut call = task::spawn(service.call(get("/slow")));
    assert_pending!(call.poll());
    assert_eq!(graceful.guards(), 1);
    drop(call);
    assert_eq!(graceful.guards(), 0);
    assert!(graceful.holders().is_empty());
}

#[tokio::test]
async fn only_a_request_that_takes_a_while_is_listed() {
    let graceful = Graceful::new();
    let mut service = layered(&graceful, |_| pending::<Answer>());
    let mut call = task::spawn(service.call(get("/slow?x=1")));
    assert!(graceful.holders().is_empty());
    assert_pending!(call.poll());
    let holders = graceful.holders();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].kind, Kind::Stream);
    assert_eq!(holders[0].what.as_deref(), Some("GET /slow"));
}

#[tokio::test]
async fn answers_announce_the_close_while_draining() {
    let graceful = Graceful::new();
    let _guard = graceful.guard();
    let mut service = layered(&graceful, |_| ready(hello()));
    let before = service.call(get("/")).await.unwrap();
    assert_eq!(before.headers().get(header::CONNECTION), None);
    graceful.drain();
    let during = service.call(get("/")).await.unwrap();
    assert_eq!(during.headers()[header::CONNECTION], "close");
    // HTTP/2 has GOAWAY, and forbids the header.
    let mut request = get("/");
    *request.version_mut() = Version::HTTP_2;
    let http2 = service.call(request).await.unwrap();
    assert_eq!(http2.headers().get(header::CONNECTION), None);
}

#[tokio::test]
async fn a_protocol_switch_keeps_its_header() {
    let graceful = Graceful::new();
    let _guard = graceful.guard();
    graceful.drain();
    let mut service = layered(&graceful, |_| {
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .body(Full::<Bytes>::default());
        ready(Ok::<_, Infallible>(response.unwrap()))
    });
    let response = service.call(get("/ws")).await.unwrap();
    assert_eq!(response.headers()[header::CONNECTION], "upgrade");
}

#[tokio::test]
async fn a_handler_is_dropped_and_answered_for_at_the_cut() {
    let graceful = Graceful::new();
    let held = std::sync::Arc::new(());
    let kept = held.clone();
    let mut service = layered(&graceful, move |_| {
        let kept = kept.clone();
        async move {
            let _kept = kept;
            pending::<Answer>().await
        }
    });
    let mut call = task::spawn(service.call(get("/")));
    assert_pending!(call.poll());
    graceful.drain();
    assert!(call.is_woken());
    assert_pending!(call.poll());
    graceful.cut();
    assert!(call.is_woken());
    let response = assert_ready!(call.poll()).unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::CONNECTION], "close");
    assert_eq!(
        std::sync::Arc::strong_count(&held),
        2,
        "only the service has it"
    );
    assert!(graceful.report().is_none(), "the answer is not out yet");
    drop(response);
    assert!(graceful.report().is_some());
}

#[tokio::test]
async fn a_body_is_broken_off_at_the_cut() {
    let graceful = Graceful::new();
    let mut service = layered(&graceful, |_| {
        let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        ready(Ok::<_, Infallible>(Response::new(StreamBody::new(never))))
    });
    let response = service.call(get("/")).await.unwrap();
    let mut body = response.into_body();
    let mut frame = task::spawn(body.frame());
    assert_pending!(frame.poll());
    graceful.cut();
    assert!(frame.is_woken());
    let error = assert_ready_err!(frame.poll().map(|frame| frame.unwrap()));
    assert!(error.is::<handover::layer::Cut>(), "{error}");
    assert!(error.to_string().contains("deadline"), "{error}");
}

#[tokio::test]
async fn requests_are_refused_only_where_that_is_asked_for() {
    let graceful = Graceful::new();
    let _guard = graceful.guard();
    let layer =
        GracefulLayer::new(graceful.clone()).refuse_while_draining(Duration::from_millis(1500));
    let mut service = layer.layer(service_fn(|_: Request<()>| ready(hello())));
    let before = service.call(get("/")).await.unwrap();
    assert_eq!(before.status(), StatusCode::OK);
    graceful.drain();
    let during = service.call(get("/")).await.unwrap();
    assert_eq!(during.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(during.headers()[header::RETRY_AFTER], "2");
    assert_eq!(during.headers()[header::CONNECTION], "close");
}

#[tokio::test]
async fn a_request_after_the_drain_is_refused() {
    let graceful = Graceful::new();
    graceful.drain();
    let mut service = layered(&graceful, |_| ready(hello()));
    let response = service.call(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn of_two_layers_the_outer_counts() {
    let graceful = Graceful::new();
    let layer = GracefulLayer::new(graceful.clone());
    let mut service = layer.layer(layered(&graceful, |request: Request<()>| {
        let token = request.extensions().get::<Graceful>();
        assert!(token.is_some(), "handlers see the token");
        pending::<Answer>()
    }));
    let mut call = task::spawn(service.call(get("/")));
    assert_pending!(call.poll());
    assert_eq!(graceful.guards(), 1);
    assert_eq!(graceful.holders().len(), 1);
}

#[tokio::test]
async fn probes_are_answered_before_the_service_and_all_else_by_it() {
    let graceful = Graceful::new();
    let _work = graceful.guard();
    let service = service_fn(|_: Request<()>| ready(hello()));
    let mut service = HealthLayer::new(Health::new(graceful.clone())).layer(service);
    let mut ask = async |request: Request<()>| {
        let answer = service.call(request).await.unwrap();
        let status = answer.status();
        let fresh = answer.headers().get(header::CACHE_CONTROL).is_some();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, fresh, String::from_utf8(body.to_vec()).unwrap())
    };
    let inner = (StatusCode::OK, false, "hello".to_owned());
    assert_eq!(ask(get("/")).await, inner);
    assert_eq!(ask(get("/readyz/more")).await, inner);
    let post = Request::post("/readyz").body(()).unwrap();
    assert_eq!(ask(post).await, inner);
    let ok = (StatusCode::OK, true, "ok\n".to_owned());
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(ask(get(path)).await, ok);
    }
    graceful.drain();
    assert_eq!(ask(get("/livez")).await, ok);
    let (status, _, why) = ask(get("/readyz")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.starts_with("draining ("), "{why}");
}

/// Fails if an `EventSource` is told something after which it would not come back.
#[tokio::test]
async fn an_event_source_is_never_told_an_error() {
    let graceful = Graceful::new();
    let layer = GracefulLayer::new(graceful.clone()).refuse_while_draining(Duration::from_secs(1));
    let mut service = layer.layer(service_fn(|_| pending::<Answer>()));
    let asking = |accept: &'static str| {
        let request = Request::get("/sse").header(header::ACCEPT, accept);
        request.body(()).unwrap()
    };
    let answered = |response: &Response<_>| {
        let head = response.headers();
        let kind = head.get(header::CONTENT_TYPE).cloned();
        (
            response.status(),
            kind,
            head.contains_key(header::CONNECTION),
        )
    };
    let events = Some(http::HeaderValue::from_static("text/event-stream"));
    let mut held = task::spawn(service.call(asking("text/event-stream")));
    assert_pending!(held.poll());
    graceful.drain();
    for accept in ["text/event-stream", "a/b, Text/Event-Stream;q=0.5"] {
        let response = service.call(asking(accept)).await.unwrap();
        assert_eq!(answered(&response), (StatusCode::OK, events.clone(), true));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.is_empty());
    }
    for accept in ["text/even", "*/*"] {
        let response = service.call(asking(accept)).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    graceful.cut();
    let response = assert_ready!(held.poll()).unwrap();
    assert_eq!(answered(&response), (StatusCode::OK, events.clone(), true));
    drop(response);
    drop(held);
    let report = graceful.drained().await;
    assert_eq!(report.cut.len(), 1, "{report}");
    let response = service.call(asking("text/event-stream")).await.unwrap();
    assert_eq!(answered(&response), (StatusCode::OK, events, true));
}

#[tokio::test]
async fn a_layer_without_the_token_counts_all_the_same() {
    let graceful = Graceful::new();
    let layer = GracefulLayer::new(graceful.clone()).without_token();
    let mut service = layer.layer(service_fn(|request: Request<()>| {
        assert!(request.extensions().is_empty());
        ready(hello())
    }));
    let response = service.call(get("/")).await.unwrap();
    assert_eq!(graceful.guards(), 1);
    drop(response);
    assert_eq!(graceful.guards(), 0);
}

#[tokio::test]
async fn a_long_path_is_cut_short_where_it_is_listed() {
    let graceful = Graceful::new();
    let mut service = layered(&graceful, |_| pending::<Answer>());
    let long = format!("/{}", "x".repeat(100));
    let mut call = task::spawn(service.call(get(&long)));
    assert_pending!(call.poll());
    let what = graceful.holders().remove(0).what.unwrap();
    assert!(
        what.starts_with("GET /xxx") && what.ends_with('…'),
        "{what}"
    );
}

/// The last answer says so in the version of who has asked: to one of 1.0 hyper would say that the
/// connection stays. A 101 is none: what comes after it is no answer.
#[test]
fn the_last_answer_is_in_the_version_of_who_asked_and_an_upgrade_is_left_alone() {
    use handover::layer::announce_to;

    let told = |version, status| {
        let mut response = Response::new(());
        *response.status_mut() = status;
        announce_to(&mut response, version);
        let connection = response.headers().get(header::CONNECTION).cloned();
        (response.version(), connection)
    };
    let close = Some(http::HeaderValue::from_static("close"));
    for (asked, answered) in [
        (Version::HTTP_09, Version::HTTP_10),
        (Version::HTTP_10, Version::HTTP_10),
        (Version::HTTP_11, Version::HTTP_11),
    ] {
        assert_eq!(told(asked, StatusCode::OK), (answered, close.clone()));
        let left = told(asked, StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(left, (Version::HTTP_11, None), "{asked:?}");
    }
}
