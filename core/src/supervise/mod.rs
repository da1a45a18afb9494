//! For a program that holds the sockets of others and starts them: what the program `handover` of
//! `handover-supervisor` stands on.
//!
//! A [`ServiceSocket`] is opened by the rules of [`Generation::listen`](crate::Generation::listen)
//! and outlives whoever serves from it. [`Keeping`] carries descriptors over an `exec` of the
//! process by itself, so that it can replace its own program and keep its process id. [`PidFile`]
//! and [`Notifier`] are what a generation uses for the same.

mod keeping;
mod socket;

pub use self::{
    keeping::{Keeping, kept},
    socket::ServiceSocket,
};
pub use crate::{pidfile::PidFile, systemd::Notifier};
