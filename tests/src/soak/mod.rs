//! All reference servers, for as long as one likes, under load, through upgrades, faults and drains in
//! a random order.
//!
//! [`run`] puts each server of [`ROWS`] through one life after the other, all servers beside one
//! another. In a life something happens every few seconds: an upgrade, several in a row, one in which
//! a process fails at one of the points of [`faults`](crate::faults), a restart. After each, the
//! service must be whole again before the next one comes. In every other life the soak keeps the
//! listening socket, as systemd would, and the service is restarted under load.
//!
//! # What must hold
//!
//! 1. No request is lost but those that were inside a process that was killed: of each client one. A
//!    framework's own loop closes connections some seconds after it has told their clients; it is not
//!    its fault if those come later, because this machine did not run them. Such losses are counted by
//!    themselves.
//! 2. Nobody is refused, and no answer is wrong, whatever was killed.
//! 3. When it is quiet, there is one process: its number is in the pid file, it answers, it has no
//!    zombie, and as many descriptors as the first that had a predecessor.
//! 4. The load goes on after each event.
//! 5. A process that was not killed ends with status 0, and leaves nothing behind.
//! 6. In the end a generation has as much memory as in the beginning, at the same point of its life.
//!
//! The first thing that does not hold ends the soak. All of it is bounded in time, and whatever ends
//! it, no process outlives it. The order of events comes from one seed; when the clients ask does not.

mod event;
mod journal;
mod life;
mod load;
mod options;
mod picture;
mod progress;
mod quiet;
mod record;
mod report;
mod row;
mod run;
mod servers;
mod service;

pub use self::{
    options::Options,
    record::{Happened, Kept, Record, Sampled},
    report::{Failed, OfServer, Report},
    row::{ROWS, Row, Speaks},
    run::run,
};
