//! Handover for actix-web: a server that stops, and is replaced, without losing one request.
//!
//! ```no_run
//! use actix_web::{App, web};
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), handover::Error> {
//!     let app = || App::new().route("/", web::get().to(async || "hello"));
//!     handover_actix_web::run("0.0.0.0:3000", app).await?;
//!     Ok(())
//! }
//! ```
//!
//! - [`run`] is the whole of it in one line: signals, inherited sockets, readiness, upgrade, drain.
//! - [`serve`] stands in for `HttpServer::new`, for who wires the parts themselves.
//! - [`foreign`] is the way in for who keeps actix's own `HttpServer`.
//! - [`Draining`] is an extractor for handlers that have no end of their own, and `ws` is for their
//!   WebSockets.
//!
//! # What is actix's and what is not
//!
//! The application is actix-web's, from its routing to its middleware and extractors, and so is how
//! it is run: a worker to a thread, each with an `App` of its own and a `LocalSet` for futures that
//! are not `Send`; in a `System`, each worker is an arbiter of it. The connections are Handover's:
//! they are accepted and parsed by its loop over hyper, not by actix-server and actix-http. That is
//! what it takes to answer the second request of a pipeline and the one that has just been written,
//! to send GOAWAY, to cut, to end with the last piece of work, and to move idle connections to a
//! successor: actix-http's dispatcher lets nobody in between.
//!
//! What an application may notice of it:
//!
//! - settings of `HttpServer` that are about connections are [`Server`]'s, under other names;
//! - `HttpRequest::app_config` has its defaults, and `on_connect` and `conn_data` do not exist: the
//!   client's address is where it always was, and over a Unix socket there is none;
//! - headers go out in lower case, whatever `camel_case` says;
//! - TLS is for the listener to do: any [`Accept`](handover::Accept) will do.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `log` (on) | [`run`] writes its log to standard error where the program has set up none |
//! | `ws` | `ws`: WebSockets of actix-ws that are told to go |
//! | `tls` | [`run_tls`](https://docs.rs/handover-tls): TLS by rustls |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod app;
mod body;
mod draining;
#[cfg(unix)]
pub mod foreign;
mod health;
mod payload;
#[cfg(unix)]
mod run;
mod server;
mod translate;
mod tunnel;
mod worker;
#[cfg(feature = "ws")]
pub mod ws;

#[cfg(unix)]
pub use self::run::run;
#[cfg(feature = "tls")]
pub use self::run::run_tls;
pub use self::{
    draining::Draining,
    health::health,
    server::{Running, Server, serve},
};
