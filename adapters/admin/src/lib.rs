//! Handover's page, status and probes over HTTP, on a listener of their own.
//!
//! ```no_run
//! use handover::Generation;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let generation = Generation::start()?;
//! let listener = generation.listen("admin=127.0.0.1:9000").await?;
//! tokio::spawn(handover_admin::serve(listener, &generation).into_future());
//! # Ok(())
//! # }
//! ```
//!
//! | path | |
//! |---|---|
//! | `/` | a page that shows all of it, live |
//! | `/livez`, `/readyz`, `/startupz` | [`handover::health`] |
//! | `/status` | a [`Snapshot`] as JSON; the page where the client asks for HTML |
//! | `/events` | a `Snapshot` each second, as server-sent events |
//! | `/metrics` | what [`Admin::with_metrics`] returns |
//! | `POST /upgrade`, `/drain`, `/cut` | what the buttons of the page do, [where it is allowed](Admin::with_token) |
//!
//! The listener is handed over like any other: in an upgrade the successor answers, also for the
//! process before it while that drains. When the service stops, this is answered to the very end, and
//! never holds the end up.
//!
//! Whoever can connect can read. Listen where only those can connect who may: at a Unix socket, on
//! loopback, in a network of the cluster's own.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `metrics` | `metrics`: what there is to see, for a recorder of the `metrics` facade |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg(unix)]

mod access;
mod events;
#[cfg(feature = "metrics")]
pub mod metrics;
mod serve;
mod service;
mod snapshot;

pub use self::{
    serve::{Admin, serve},
    snapshot::Snapshot,
};

#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing {
    //! What fuzzers call. Not for programs.
    pub use crate::access::fuzz as access;
}
