//! Middleware that makes a drain wait for requests, and requests aware of a drain.
//!
//! A request is *in flight* from the call until its response body has ended or was dropped. It
//! works under every tower server. Under Handover's own serve loops it is built in already: there
//! a second layer finds the token in the request's extensions and steps aside.
//!
//! What it does:
//!
//! - counts each request in flight, and lists those that take a while;
//! - puts the [`Graceful`](crate::Graceful) into the request's extensions, so that handlers can
//!   watch the drain, [unless told not to](GracefulLayer::without_token);
//! - from the lame duck on, answers HTTP/1 with `Connection: close`, so that a client goes
//!   elsewhere with its next request and loses none;
//! - if asked to, refuses requests with `503` and `Retry-After` while draining;
//! - answers an `EventSource`, where it has to refuse it, with an empty stream of events: after a
//!   `503` it would never come back;
//! - at the cut, answers `503` for a handler that has not answered, and breaks off a body that has
//!   not ended, so that the client sees that it is incomplete.
//!
//! # Examples
//!
//! ```
//! use std::convert::Infallible;
//!
//! use handover::{Graceful, GracefulLayer};
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let graceful = Graceful::new();
//! let service = ServiceBuilder::new()
//!     .layer(GracefulLayer::new(graceful.clone()))
//!     .service(service_fn(async |_: Request<()>| {
//!         Ok::<_, Infallible>(Response::new(String::from("hello")))
//!     }));
//!
//! let response = service.oneshot(Request::new(())).await.unwrap();
//! graceful.drain();
//! assert!(graceful.report().is_none(), "the body has not been read");
//! drop(response);
//! assert!(graceful.report().unwrap().is_complete());
//! # }
//! ```

mod asked;
mod body;
mod future;
mod health;
mod line;
mod make;
mod service;
mod tokens;
mod watch;

pub use self::{
    asked::{Asked, asks_for_events},
    body::{Cut, ResponseBody},
    future::{ResponseFuture, announce_to},
    health::{HealthFuture, HealthLayer, HealthService},
    make::GracefulLayer,
    service::GracefulService,
    watch::{InFlight, Watch},
};
