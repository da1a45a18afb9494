//! The service that hyper calls: one connection's view of the user's service.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use handover::layer;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONNECTION};
use http_body::Body;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::{ServiceExt, util::Oneshot};
use tower_service::Service;

use crate::{
    body::{InFlight, RequestBody, ResponseBody},
    link::Link,
};

pub(crate) struct ConnService<S> {
    service: S,
    link: Arc<Link>,
}

impl<S> ConnService<S> {
    pub(crate) fn new(service: S, link: Arc<Link>) -> Self {
        Self { service, link }
    }
}

// Nothing here is ever pinned: the user's service is cloned out of it.
impl<S> Unpin for ConnService<S> {}

impl<S, B> hyper::service::Service<Request<Incoming>> for ConnService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    B: Body,
{
    type Response = Response<ResponseBody<layer::ResponseBody<B>>>;
    type Error = S::Error;
    type Future = ConnFuture<Oneshot<S, Request<RequestBody>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(|body| RequestBody::new(body, &self.link));
        let version = request.version();
        let shares = version >= Version::HTTP_2;
        let tunnels = shares && request.method() == Method::CONNECT;
        let in_flight = InFlight::begin(&self.link, &request, shares);
        let asks_for_events = layer::asks_for_events(request.headers());
        let stream = shares.then(|| (request.method().clone(), request.uri().clone()));
        let extensions = request.extensions_mut();
        extensions.insert(self.link.connection.clone());
        extensions.insert(self.link.graceful.clone());
        let oneshot = self.service.clone().oneshot(request);
        // Without a guard the drain is over: the request is served all the same, since it was
        // read, and the process ends when it ends.
        let inner = match (self.link.graceful.guard(), stream) {
            (Some(guard), None) => layer::ResponseFuture::of_connection(oneshot, guard),
            (Some(guard), Some((method, uri))) => {
                let connection = self.link.connection.clone();
                layer::ResponseFuture::of_stream(oneshot, guard, method, uri, connection)
            }
            (None, _) => layer::ResponseFuture::untracked(oneshot),
        };
        ConnFuture {
            inner: inner.for_events(asks_for_events),
            in_flight: Some(in_flight),
            version,
            tunnels,
        }
    }
}

pin_project! {
    pub(crate) struct ConnFuture<F> {
        #[pin]
        inner: layer::ResponseFuture<F>,
        in_flight: Option<InFlight>,
        version: Version,
        tunnels: bool,
    }
}

impl<F, B, E> Future for ConnFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<layer::ResponseBody<B>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(response) = this.inner.poll(cx) else {
            return Poll::Pending;
        };
        let Some(in_flight) = this.in_flight.take() else {
            return Poll::Pending; // polled after completion, which hyper does not
        };
        let mut response = response?;
        let link = in_flight.link();
        if *this.tunnels && response.status().is_success() {
            link.tunnel();
        }
        let upgrades = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if *this.version <= Version::HTTP_11 && !upgrades && link.announces() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, in_flight))))
    }
}
