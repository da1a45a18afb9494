//! `handover run` with real processes, sockets and signals.
//!
//! The program that is run is this test's own binary, called with the name of one test,
//! [`app::runs_if_asked`], which serves instead of testing when the environment says so.

#![cfg(target_os = "linux")]

mod app;
mod basics;
mod compat;
mod crash;
mod identity;
mod itself;
mod load;
mod process_one;
mod real;
mod replace;
#[path = "../shared/mod.rs"]
mod shared;
mod support;
mod talk;
