//! Starts real server programs and follows their generations.
//!
//! A [`Program`] is what to start; a [`Server`] is what runs then: the process
//! that was started and every successor that announced itself by a `ready` line
//! on the stdout they share. A [`Process`] is one of them.
//!
//! # Invariants
//!
//! 1. A process is named by a pidfd, opened when it was started or announced
//!    itself. A pid that was given to another process since is never signalled.
//! 2. This process is the child subreaper of all generations: one whose
//!    predecessor has gone becomes our child, so its exit status comes to us
//!    and no other process has to reap it.
//! 3. Nothing outlives its [`Server`]: dropping it kills the process group, all
//!    generations seen and their descendants. If this process ends without
//!    dropping it, a watchdog kills the group.
//! 4. Every wait has a bound, and says at its end what it waited for.
//!
//! Give a server no process group or session of its own: that is how
//! generations are found that never announced themselves.

pub mod proc;

mod belongings;
mod beside;
mod process;
mod program;
mod ready;
mod server;
mod tcp;
mod wait;
mod watchdog;

pub use self::{
    belongings::Belongings,
    beside::beside,
    process::{Exit, Process},
    program::Program,
    ready::Ready,
    server::Server,
    tcp::{ServerEnd, established},
    wait::{eventually, seen},
};
pub use rustix::process::Signal;
