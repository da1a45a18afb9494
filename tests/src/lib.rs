//! What the process tests, the demonstration and the benches of Handover share.
//!
//! * [`load`] is a client that never retries and says what became of each of
//!   its requests,
//! * [`harness`] starts real server programs, signals them, and follows their
//!   generations,
//! * [`hello`] puts the smallest examples through a restart,
//! * [`network`] is a network between the two that takes its time,
//! * [`flights`] are TLS handshakes that stall where they are to,
//! * [`faults`] are the points of an upgrade at which a process can be made to fail,
//! * [`staying`] and [`grpc`] are clients that stay, and callers of gRPC,
//! * [`soak`] puts all reference servers through a random mix of all that, for as long as it is told to,
//! * [`tls`] makes certificates, and clients that trust them,
//! * [`reference`](mod@reference) is what those programs serve, and their flags.

pub mod faults;
pub mod flights;
pub mod grpc;
pub mod harness;
pub mod hello;
pub mod load;
#[cfg(target_os = "linux")]
pub mod machine;
#[cfg(target_os = "linux")]
pub mod network;
pub mod reference;
pub mod soak;
pub mod staying;
pub mod tls;
