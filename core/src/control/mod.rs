//! The control socket: asks a service where it stands, and for an upgrade, a drain or a cut.
//!
//! [`GenerationBuilder::control`](crate::GenerationBuilder::control) opens it. It is a Unix stream
//! socket of mode 0600 that is passed from generation to generation. The program `handover` (crate
//! `handover-supervisor`) speaks to it; so does whatever can write a line of JSON:
//!
//! ```text
//! $ echo '{"command":"status"}' | nc -U /run/app.control
//! ```
//!
//! # Protocol
//!
//! A connection carries one request: a line, of at most [`LONGEST_REQUEST`] bytes, that is an object
//! with a `command` ([`Request`]). The answer is one line for each [`Event`]; the last of them
//! [is the outcome](Event::is_last), and then the connection ends. What the other end does not know
//! is left alone: fields and events are only ever added.
//!
//! Who asks for an upgrade stays connected to the process that hands over, and hears of it until
//! that has drained. Neither a connection nor a reader who does not read holds anything up.

pub(crate) mod caller;
mod events;
pub(crate) mod followers;
mod protocol;
pub(crate) mod server;
pub(crate) mod socket;

pub use self::caller::Caller;
pub(crate) use self::protocol::Refused;
pub use self::protocol::{
    Event, Failure, InvalidEvent, LONGEST_REQUEST, Refusal, Request, UpgradeRequest, VERSION,
};
