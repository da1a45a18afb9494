//! TLS for Handover, by rustls: what a drain and an upgrade have to know of it.
//!
//! ```no_run
//! use handover::Generation;
//! use handover_tls::Tls;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let generation = Generation::start()?;
//! let tls = Tls::builder("cert.pem", "key.pem").load()?;
//! let listener = tls.accept(generation.listen("0.0.0.0:443").await?);
//! // `serve(listener, app)` of any adapter; or its `run_tls`, which is all of this in one line.
//! # drop(listener);
//! # Ok(())
//! # }
//! ```
//!
//! [`Tls`] makes a [`TlsListener`] of any listener, which every serve loop of Handover serves as it
//! does others:
//!
//! - **Handshakes** are done by each connection's own task, on all cores, off the accept path. One
//!   that is under way when a drain begins is finished and served, or ends at the deadline; whatever a
//!   client sends, or does not, costs only its own connection, and no longer than
//!   [a limit](Builder::handshake_timeout). The drain's report names it.
//! - **Certificates** are read from PEM files: at the start, so by each next generation, and
//!   [on demand](Tls::reload). A file that cannot be used changes nothing.
//! - **Sessions** outlive an upgrade: the [keys of their tickets](TicketKeys) go to the successor, and
//!   clients that come back do not pay for a full handshake.
//! - **Handlers** see what was agreed: [`TlsInfo`].
//!
//! Connections are not moved in an upgrade: they are told to go elsewhere, served, and closed, with
//! close_notify.
//!
//! The cryptography is *ring*'s, which needs no more than a C compiler to build. With
//! [`Tls::new`] it is what you like.
//!
//! # Features
//!
//! None. The adapters for frameworks have this crate behind their feature `tls`.

mod builder;
mod error;
mod files;
mod info;
mod listener;
mod run;
mod socket;
mod stream;
mod tickets;
mod tls;

use std::time::Duration;

pub use rustls;

pub use self::{
    builder::Builder, error::Error, info::TlsInfo, listener::TlsListener, run::run,
    stream::TlsStream, tickets::TicketKeys, tls::Tls,
};

/// How long a handshake may take, unless told otherwise.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
