//! What Handover costs, next to what the other crates cost that do a part of the same.
//!
//! A [`Row`] is one thing to be measured: an operation, and how many threads can do it at once.
//! [`callgrind`] counts its instructions, which come out the same whatever else the machine does. With
//! the feature `peers` there are rows of the other crates, and with `processes` the programs that the
//! benchmarks of an upgrade replace.

#[cfg(feature = "rows")]
pub mod callgrind;
#[cfg(feature = "rows")]
pub mod memory;
#[cfg(feature = "rows")]
pub mod memory_io;
#[cfg(feature = "rows")]
mod row;
#[cfg(feature = "rows")]
pub mod rows;
pub mod table;
#[cfg(feature = "processes")]
pub mod upgraded;

#[cfg(feature = "rows")]
pub use self::row::{Row, Run};
