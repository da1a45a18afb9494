//! The program `handover` against real services: every command and every exit status.
//!
//! The service is this test's own binary, called with the name of one test,
//! [`service::runs_if_asked`], which serves instead of testing when the environment says so.

#![cfg(unix)]

mod check;
mod commands;
mod failures;
mod service;
#[path = "../shared/mod.rs"]
mod shared;
#[cfg(all(target_os = "linux", feature = "watch"))]
mod terminal;
mod watch;
