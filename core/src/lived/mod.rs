//! What has no end of its own: WebSockets, streams of events, long polls.
//!
//! A drain waits for what is under way, and of these nothing ends by itself. So they are told: each
//! at its [`Turn`], and each in the way of its protocol, so that its client comes back to somebody
//! who serves.
//!
//! | | how it is told | with |
//! |---|---|---|
//! | a WebSocket | a close frame with code and reason, then the closing handshake | [`Closing`] |
//! | a stream of server-sent events | `retry:`, a comment, and the clean end of the body | `EventsUntilDrain` |
//! | any other stream or body | its clean end | `UntilDrain` |
//! | a long poll | its answer, early | [`Draining::or`] |
//!
//! Adapters make a [`Draining`] of a request, and adaptors of these for the types of their framework.

mod closing;
mod draining;
#[cfg(feature = "layer")]
mod events;
#[cfg(feature = "layer")]
mod until;

pub use self::{
    closing::{Close, ClosePolicy, Closing},
    draining::Draining,
};
#[cfg(feature = "layer")]
pub use self::{events::EventsUntilDrain, until::UntilDrain};
