//! What the process tests, the demonstration and the benches of Handover share.
//!
//! * [`load`] is a client that never retries and says what became of each of
//!   its requests,
//! * [`reference`](mod@reference) is what the server programs serve, and their
//!   flags.

pub mod load;
pub mod reference;
