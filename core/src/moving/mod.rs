//! Open connections go from one generation to the next.
//!
//! [`outbound`] is the predecessor's half, [`inbound`] the successor's; the protocol is told where
//! its types are, in [`accept`](crate::accept). What a successor says of a connection goes through
//! [`answers`], and waits for its listener in [`arrivals`].

pub(crate) mod answers;
mod arrivals;
pub(crate) mod inbound;
pub(crate) mod outbound;

#[cfg(all(test, not(loom)))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
