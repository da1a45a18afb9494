//! What the process tests, the demonstration and the benches of Handover share.
//!
//! * [`load`] is a client that never retries and says what became of each of
//!   its requests,
//! * [`harness`] starts real server programs, signals them, and follows their
//!   generations,
//! * [`reference`](mod@reference) is what those programs serve, and their flags.

pub mod harness;
pub mod load;
pub mod reference;
