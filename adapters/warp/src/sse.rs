//! Server-sent events that end as their clients understand it.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use futures_util::stream;
//! use handover::Draining;
//! use handover_warp::sse;
//! use warp::{Filter, sse::Event};
//!
//! let events = warp::path!("events")
//!     .and(handover_warp::draining())
//!     .map(|draining: Draining| {
//!         let events = stream::pending::<Result<Event, Infallible>>();
//!         sse::graceful(warp::sse::reply(events), &draining)
//!     });
//! # let _ = warp::service(events);
//! ```

use handover::Draining;
use http_body_util::BodyDataStream;
use warp::{Reply, reply::Response};

/// This stream of events, but that it ends when its server drains.
///
/// At its [turn](handover::Turn) the client gets a `retry:` field, a comment, and the clean end of the
/// body. An `EventSource` then comes back after that time, with the `Last-Event-ID` that it has seen.
/// A stream that begins in a drain is served, and has its turn after the others.
///
/// `sse` is what `warp::sse::reply` makes, or any reply of its type, `text/event-stream`.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::convert::Infallible;
///
/// use futures_util::stream;
/// use handover::Draining;
/// use handover_warp::sse;
/// use warp::{Filter, sse::Event};
///
/// let events = handover_warp::draining().map(|draining: Draining| {
///     let hello = stream::iter([Ok::<_, Infallible>(Event::default().data("hello"))]);
///     sse::graceful(warp::sse::reply(hello), &draining)
/// });
/// let answer = warp::test::request().reply(&events).await;
/// assert_eq!(answer.body(), "data:hello\n\n");
/// # }
/// ```
pub fn graceful(sse: impl Reply, draining: &Draining) -> Response {
    let (parts, body) = sse.into_response().into_parts();
    let events = draining.events(BodyDataStream::new(body));
    let mut response = warp::reply::stream(events).into_response();
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    *response.extensions_mut() = parts.extensions;
    response
}
