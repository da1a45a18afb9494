//! Named sockets that outlive the process that opened them.
//!
//! [`spec`] reads what a user wrote, [`open`] makes a socket of it, [`foreign`] reads what another
//! program left in the environment, and [`registry`] remembers every socket of a generation for
//! the next one. A [`Listener`] is what a server accepts from; its [`gate`] keeps it quiet until
//! its generation serves.

pub(crate) mod foreign;
pub(crate) mod gate;
mod listener;
pub(crate) mod open;
pub(crate) mod probe;
pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod spec;
mod stream;
pub(crate) mod unix_path;

pub use self::{listener::Listener, stream::Stream};
