use std::{
    convert::Infallible, future::Ready, hint::black_box, pin::pin, task::Context, task::Waker,
};

use bytes::Bytes;
use handover::{Graceful, GracefulLayer};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tower::{Layer, Service, util::service_fn};

use crate::{Row, Run};

/// Calls a service that answers at once, and drops the answer. The first row is the bare call.
pub fn layer() -> Vec<Row> {
    #[allow(unused_mut, reason = "without the peers there are no more")]
    let mut rows = vec![
        Row::new("tower/a bare call", |threads| {
            (0..threads).map(|_| calls(service_fn(answer))).collect()
        }),
        Row::new("handover/GracefulLayer::without_token", |threads| {
            let layer = GracefulLayer::new(Graceful::new()).without_token();
            let layered = || calls(layer.layer(service_fn(answer)));
            (0..threads).map(|_| layered()).collect()
        }),
        Row::new("handover/GracefulLayer", |threads| {
            let layer = GracefulLayer::new(Graceful::new());
            let layered = || calls(layer.layer(service_fn(answer)));
            (0..threads).map(|_| layered()).collect()
        }),
    ];
    #[cfg(feature = "peers")]
    rows.push(Row::new("tower-http/InFlightRequests", |threads| {
        let (layer, _) = tower_http::metrics::InFlightRequestsLayer::pair();
        let layered = || calls(layer.layer(service_fn(answer)));
        (0..threads).map(|_| layered()).collect()
    }));
    rows
}

fn answer(_: Request<Empty<Bytes>>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    std::future::ready(Ok(Response::new(Full::new(Bytes::from_static(b"hello")))))
}

fn calls<S>(mut service: S) -> Run
where
    S: Service<Request<Empty<Bytes>>> + Send + 'static,
{
    Box::new(move |times| {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..times {
            let called = service.call(black_box(Request::new(Empty::new())));
            let polled = pin!(called).poll(&mut cx);
            drop(black_box(polled));
        }
    })
}
