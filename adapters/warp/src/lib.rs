//! Handover for warp: a server that stops, and is replaced, without losing one request.
//!
//! ```no_run
//! use warp::Filter;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), handover::Error> {
//!     let hello = warp::path::end().map(|| "hello");
//!     handover_warp::run("0.0.0.0:3000", hello).await?;
//!     Ok(())
//! }
//! ```
//!
//! - [`run`] is the whole of it in one line: signals, inherited sockets, readiness, upgrade, drain.
//! - [`serve`] has the shape of [`warp::serve`], on Handover's loop.
//! - [`remote`], [`peer`], [`graceful`] and [`draining`] are filters for what handlers ask of that loop.
//! - `ws` and [`sse`] are for what has no end of its own.
//! - [`foreign`] is for who has to keep [`warp::serve`], and says what that cannot do.
//!
//! `warp::addr::remote()` finds nothing here: the type that it looks for is private to warp's own
//! server. Use [`remote`], which has its signature.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `log` (on) | [`run`] writes its log to standard error where the program has set up none |
//! | `ws` | `ws`: WebSockets that are told to go |
//! | `tls` | [`run_tls`](https://docs.rs/handover-tls): TLS by rustls |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod filters;
pub mod foreign;
mod health;
#[cfg(unix)]
mod run;
mod server;
pub mod sse;
#[cfg(feature = "ws")]
pub mod ws;

#[cfg(unix)]
pub use self::run::run;
#[cfg(feature = "tls")]
pub use self::run::run_tls;
pub use self::{
    filters::{draining, graceful, peer, remote},
    health::health,
    server::{Server, serve},
};
