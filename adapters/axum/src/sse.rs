//! Server-sent events that end as their clients understand it.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use axum::{
//!     Router,
//!     response::{Response, Sse, sse::Event},
//!     routing::get,
//! };
//! use futures_util::{Stream, stream};
//! use handover_axum::{Draining, sse};
//!
//! async fn events(draining: Draining) -> Response {
//!     let events = stream::pending::<Result<Event, Infallible>>();
//!     sse::graceful(Sse::new(events), &draining)
//! }
//!
//! let app: Router = Router::new().route("/events", get(events));
//! # let _ = app;
//! ```

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use handover::Draining;

/// This stream of events, but that it ends when its server drains.
///
/// At its [turn](handover::Turn) the client gets a `retry:` field, a comment, and the clean end of the
/// body. An `EventSource` then comes back after that time, with the `Last-Event-ID` that it has seen.
/// A stream that begins in a drain is served, and has its turn after the others.
///
/// `sse` is an [`Sse`](axum::response::Sse), or any response of its type, `text/event-stream`.
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
///
/// use axum::{body::Body, response::{Response, Sse, sse::Event}};
/// use futures_util::stream;
/// use handover_axum::{Draining, sse};
///
/// async fn events(draining: Draining) -> Response {
///     let hello = stream::iter([Ok::<_, Infallible>(Event::default().data("hello"))]);
///     sse::graceful(Sse::new(hello), &draining)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), axum::Error> {
/// let response = events(Draining::default()).await;
/// assert_eq!(response.headers()["content-type"], "text/event-stream");
/// let body = axum::body::to_bytes(response.into_body(), 1024).await?;
/// assert_eq!(body, "data: hello\n\n");
/// # Ok(())
/// # }
/// ```
pub fn graceful(sse: impl IntoResponse, draining: &Draining) -> Response {
    sse.into_response()
        .map(|body| Body::new(draining.events(body)))
}
