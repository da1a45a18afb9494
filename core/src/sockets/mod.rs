//! Named sockets that outlive the process that opened them.
//!
//! | kind | opened by | held back until the generation serves | what the successor does not take |
//! |---|---|---|---|
//! | TCP listener | `listen` | yes | is finished by the predecessor: nothing queued is lost |
//! | Unix stream listener | `listen` | yes | the same; then its file is removed |
//! | Unix seqpacket listener | `listen_seqpacket` | yes | the same |
//! | UDP socket | `bind_udp` | no: read once ready | is closed when the predecessor ends |
//! | Unix datagram socket | `bind_unix_datagram` | no: read once ready | the same; then its file is removed |
//! | any file | `keep_file` | | is closed at `ready` |
//! | a connected stream | `keep_connection` | | is closed at `ready` |
//! | of a later release | | | is closed at `ready` |
//!
//! [`spec`] reads what a user wrote, [`open`] makes a socket of it with its [`options`], [`foreign`]
//! reads what another program left in the environment, and [`registry`] remembers every socket of a
//! generation for the next one; [`kept`] does so for what the program keeps. A [`Listener`] is what a
//! server accepts from; its [`gate`] keeps it quiet until its generation serves. Where the addresses
//! of two generations differ, [`overlap`] opens the new socket and [`held`] ends the old one.

#[cfg(unix)]
pub(crate) mod access;
#[cfg(unix)]
mod difference;
#[cfg(unix)]
mod entrance;
#[cfg(unix)]
pub(crate) mod foreign;
pub(crate) mod gate;
#[cfg(unix)]
pub(crate) mod held;
#[cfg(unix)]
mod inherited;
#[cfg(unix)]
pub(crate) mod kept;
#[cfg(unix)]
mod leaving;
#[cfg(unix)]
mod listener;
#[cfg(unix)]
mod mover;
#[cfg(unix)]
pub(crate) mod open;
#[cfg(unix)]
mod options;
#[cfg(unix)]
mod overlap;
#[cfg(unix)]
pub(crate) mod probe;
#[cfg(unix)]
pub(crate) mod record;
#[cfg(unix)]
pub(crate) mod registry;
#[cfg(unix)]
mod seqpacket;
#[cfg(unix)]
pub(crate) mod socket_file;
pub(crate) mod spec;
#[cfg(unix)]
mod stream;
#[cfg(unix)]
pub(crate) mod unix_path;
#[cfg(unix)]
pub(crate) mod way;

#[cfg(unix)]
pub use self::{
    difference::Difference,
    listener::Listener,
    options::SocketOptions,
    seqpacket::{Seqpacket, SeqpacketListener},
    stream::Stream,
};
