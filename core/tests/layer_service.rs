//! What the layers leave as it is, and what they say of the body that they wrap.
#![cfg(feature = "layer")]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use handover::{Graceful, GracefulLayer, HealthLayer, health::Health, layer::asks_for_events};
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, service_fn};

/// A service that is never ready.
struct Busy;

impl Service<Request<()>> for Busy {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        unreachable!("it is never ready")
    }
}

async fn hello(_: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

#[tokio::test]
async fn a_layer_is_ready_when_its_service_is() {
    let graceful = Graceful::new();
    let mut context = task::spawn(());
    let mut layered = GracefulLayer::new(graceful.clone()).layer(Busy);
    assert_pending!(context.enter(|cx, _| layered.poll_ready(cx)));
    let mut layered = HealthLayer::new(Health::new(graceful)).layer(Busy);
    assert_pending!(context.enter(|cx, _| Service::<Request<()>>::poll_ready(&mut layered, cx)));
}

#[tokio::test]
async fn a_body_is_as_long_as_the_one_in_it() {
    let graceful = Graceful::new();
    let mut service = GracefulLayer::new(graceful.clone()).layer(service_fn(hello));
    let mut body = service.call(Request::new(())).await.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(5));
    assert!(!body.is_end_stream());
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "hello"
    );
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn a_request_is_over_with_the_end_of_its_body() {
    let graceful = Graceful::new();
    let mut service = GracefulLayer::new(graceful.clone()).layer(service_fn(hello));
    let mut body = service.call(Request::new(())).await.unwrap().into_body();
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        assert_eq!(graceful.guards(), 1);
    }
    assert_eq!(graceful.guards(), 0, "a body that has ended holds nothing");
    drop(body);
}

#[tokio::test]
async fn a_refusal_without_a_part_of_a_second_is_not_rounded() {
    let graceful = Graceful::new();
    let _guard = graceful.guard();
    graceful.drain();
    let layer = GracefulLayer::new(graceful).refuse_while_draining(Duration::from_secs(3));
    let mut service = layer.layer(service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    }));
    let refused = service.call(Request::new(())).await.unwrap();
    assert_eq!(refused.headers()[header::RETRY_AFTER], "3");
}

#[test]
fn a_long_list_of_other_types_does_not_ask_for_events() {
    let accept = HeaderValue::from_static("text/html,application/xhtml+xml,*/*;q=0.8");
    assert!(!asks_for_events(Some(&accept)));
}
