//! Asks a Handover service where it stands, and for an upgrade, a drain or a cut.
//!
//! It speaks to the [control socket](handover::control) that the service has opened with
//! [`GenerationBuilder::control`](handover::GenerationBuilder::control). The program `handover` of
//! this crate does so from a shell; [`Client`] does from a program.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//!
//! use handover::control::{Event, Request, UpgradeRequest};
//! use handover_supervisor::Client;
//!
//! # fn main() -> Result<(), handover_supervisor::Error> {
//! let client = Client::new("/run/app.control");
//! let deadline = Instant::now() + Duration::from_secs(120);
//! let upgrade = Request::Upgrade(UpgradeRequest::default());
//! for event in client.ask(&upgrade, deadline)? {
//!     match event? {
//!         Event::Serving { pid, .. } => println!("process {pid} serves"),
//!         Event::Failed { message, .. } => eprintln!("nothing has changed: {message}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `watch` (on) | `handover status --watch` draws on the terminal; without it, it prints |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
mod error;

pub use self::{
    client::{Client, Events},
    error::Error,
};
