//! Real processes that hand over to each other.
//!
//! The program under test is this test's own binary, called with the name of one test,
//! [`server::runs_if_asked`], which serves instead of testing when the environment says so.

#![cfg(unix)]

mod addresses;
mod check;
mod control;
mod environment;
mod extras;
mod failures;
mod fd_store;
mod first;
mod generations;
mod heirs;
mod hygiene;
mod kinds;
mod manager;
mod many;
mod options;
mod server;
mod service;
mod sockets;
mod state;
mod stops;
mod strangers;
mod systemd;
mod upgrades;
