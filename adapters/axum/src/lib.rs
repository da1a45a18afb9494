//! Handover for axum: a server that stops, and is replaced, without losing one request.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), handover::Error> {
//!     let app = Router::new().route("/", get(async || "hello"));
//!     handover_axum::run("0.0.0.0:3000", app).await?;
//!     Ok(())
//! }
//! ```
//!
//! - [`run`] is the whole of it in one line: signals, inherited sockets, readiness, upgrade, drain.
//! - [`serve`] is `axum::serve` on Handover's loop, for who wires the parts themselves.
//! - [`Draining`], `ws` and [`sse`] are for handlers that have no end of their own.
//! - [`foreign`] is for who has to keep `axum::serve`, and says what that cannot do.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `log` (on) | [`run`] writes its log to standard error where the program has set up none |
//! | `ws` | `ws`: WebSockets that are told to go |
//! | `tls` | [`run_tls`](https://docs.rs/handover-tls): TLS by rustls |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod draining;
pub mod foreign;
mod health;
mod run;
mod service;
pub mod sse;
#[cfg(feature = "ws")]
pub mod ws;

use axum::body::Body;
use handover::Accept;
use handover_hyper::Serve;
use http::Request;
use tower_service::Service;

#[cfg(feature = "tls")]
pub use self::run::run_tls;
pub use self::{draining::Draining, health::health, run::run, service::App};
pub use handover_hyper::{FrameGate, NotMovable, movable};

/// Serves an axum application on a listener, as `axum::serve` does, until its drain is over.
///
/// `app` is a `Router`, a `MethodRouter`, or any tower service for axum's requests. There is no
/// need for `into_make_service_with_connect_info`: every request carries
/// `ConnectInfo<SocketAddr>` over TCP, and `ConnectInfo<Address>` over any socket.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use handover::Graceful;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let graceful = Graceful::new();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// let app = Router::new().route("/", get(async || "hello"));
/// let report = handover_axum::serve(listener, app)
///     .with_graceful(graceful)
///     .await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
pub fn serve<A, S>(listener: A, app: S) -> Serve<A, App<S>>
where
    A: Accept,
    S: Service<Request<Body>> + 'static,
{
    handover_hyper::serve(listener, App::new(app)).with_connection_extensions(service::connect_info)
}
