//! What is answered.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use handover::{
    Graceful,
    health::{Health, Probe},
};
use handover_hyper::RequestBody;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde::Serialize;

use crate::{
    access::{Access, Denied, Offer},
    events::events,
    serve::Metrics,
    snapshot::Snapshots,
};

const PAGE: &str = include_str!("page.html");
/// In it, what it is to offer.
const OFFER: &str = "{{offer}}";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The admin surface as a tower service.
#[derive(Clone)]
pub(crate) struct Service {
    snapshots: Arc<Snapshots>,
    health: Health,
    access: Access,
    metrics: Option<Metrics>,
}

/// What a button does.
#[derive(Clone, Copy, Debug)]
enum Button {
    Upgrade,
    Drain,
    Cut,
}

/// What came of it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// A successor serves.
    Successor(u32),
    /// Begun, and to be looked at.
    Begun(&'static str),
    Failed(String),
    Denied(&'static str),
}

impl Service {
    pub(crate) fn new(
        snapshots: Arc<Snapshots>,
        health: Health,
        access: Access,
        metrics: Option<Metrics>,
    ) -> Self {
        Self {
            snapshots,
            health,
            access,
            metrics,
        }
    }

    fn get(&self, request: &Request<RequestBody>) -> Response<Body> {
        let path = request.uri().path();
        if let Some(probe) = Probe::from_path(path) {
            return self.health.respond(probe).map(whole);
        }
        match path {
            "/" => page(self.access.offer(request)),
            "/status" if wants_html(request) => page(self.access.offer(request)),
            "/status" => match self.snapshots.recent() {
                Ok(snapshot) => answer(StatusCode::OK, JSON, snapshot.to_string()),
                Err(error) => {
                    let status = StatusCode::INTERNAL_SERVER_ERROR;
                    answer(status, TEXT, format!("{error}\n"))
                }
            },
            "/events" => self.events(request.extensions().get()),
            "/metrics" => match &self.metrics {
                Some(render) => {
                    #[cfg(feature = "metrics")]
                    crate::metrics::record(self.snapshots.generation());
                    answer(StatusCode::OK, METRICS, render())
                }
                None => answer(StatusCode::NOT_FOUND, TEXT, "no metrics are recorded\n"),
            },
            _ => answer(StatusCode::NOT_FOUND, TEXT, "not found\n"),
        }
    }

    fn events(&self, graceful: Option<&Graceful>) -> Response<Body> {
        // Under our loop there always is one.
        let graceful = graceful.cloned().unwrap_or_default();
        let body = StreamBody::new(events(Arc::clone(&self.snapshots), &graceful));
        let mut response = Response::new(body.boxed_unsync());
        let kind = HeaderValue::from_static("text/event-stream");
        let never = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response.headers_mut().insert(header::CACHE_CONTROL, never);
        response
    }

    async fn press(self, button: Button, allowed: Result<(), Denied>) -> Response<Body> {
        let generation = self.snapshots.generation();
        let (status, outcome) = match (allowed, button) {
            (Err(Denied::Closed), _) => (
                StatusCode::FORBIDDEN,
                Outcome::Denied(
                    "this listener is for looking: give it a token, or use a unix socket",
                ),
            ),
            (Err(Denied::NoToken), _) => (
                StatusCode::UNAUTHORIZED,
                Outcome::Denied(
                    "the token of this service is missing, or it is another one (authorization: bearer)",
                ),
            ),
            (Err(Denied::OtherSite), _) => (
                StatusCode::FORBIDDEN,
                Outcome::Denied("this is for the page of this service, and not for another site's"),
            ),
            (Ok(()), Button::Upgrade) => match generation.upgrade().await {
                Ok(successor) => (StatusCode::OK, Outcome::Successor(successor.pid())),
                Err(error) => (StatusCode::CONFLICT, Outcome::Failed(error.to_string())),
            },
            (Ok(()), Button::Drain) => {
                generation.graceful().drain();
                (StatusCode::ACCEPTED, Outcome::Begun("drain"))
            }
            (Ok(()), Button::Cut) => {
                generation.graceful().cut();
                (StatusCode::ACCEPTED, Outcome::Begun("cut"))
            }
        };
        tracing::info!(?button, %status, "asked over the admin listener");
        // Strings and numbers can be written.
        let text = serde_json::to_string(&outcome).unwrap_or_default();
        let mut response = answer(status, JSON, text);
        if status == StatusCode::UNAUTHORIZED {
            let how = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
        }
        response
    }
}

impl tower_service::Service<Request<RequestBody>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Answering {
        let button = match request.uri().path() {
            "/upgrade" => Some(Button::Upgrade),
            "/drain" => Some(Button::Drain),
            "/cut" => Some(Button::Cut),
            _ => None,
        };
        match (request.method(), button) {
            (&Method::POST, Some(button)) => {
                let allowed = self.access.check(&request);
                let press = self.clone().press(button, allowed);
                Box::pin(async { Ok(press.await) })
            }
            (_, Some(_)) => Box::pin(ready(Ok(not_allowed("POST")))),
            (&(Method::GET | Method::HEAD), None) => Box::pin(ready(Ok(self.get(&request)))),
            (_, None) => Box::pin(ready(Ok(not_allowed("GET, HEAD")))),
        }
    }
}

fn wants_html(request: &Request<RequestBody>) -> bool {
    let accept = request.headers().get(header::ACCEPT);
    accept.is_some_and(|accept| {
        accept
            .as_bytes()
            .windows(9)
            .any(|part| part == b"text/html")
    })
}

fn page(offer: Offer) -> Response<Body> {
    let mut response = answer(StatusCode::OK, HTML, PAGE.replacen(OFFER, offer.name(), 1));
    // All of it is in the page itself, and nobody else is to show it in a frame.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  connect-src 'self'; frame-ancestors 'none'";
    let policy = HeaderValue::from_static(policy);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn not_allowed(allowed: &'static str) -> Response<Body> {
    let text = format!("only {allowed}\n");
    let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

fn answer(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(whole(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}
