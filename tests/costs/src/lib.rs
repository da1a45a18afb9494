//! What Handover costs, next to what the other crates cost that do a part of the same.
//!
//! A [`Row`] is one thing to be measured: an operation, and how many threads can do it at once.
//! [`callgrind`] counts its instructions, which come out the same whatever else the machine does. With
//! the feature `peers` there are rows of the other crates.

pub mod callgrind;
pub mod memory;
pub mod memory_io;
mod row;
pub mod rows;
pub mod table;

pub use self::row::{Row, Run};
