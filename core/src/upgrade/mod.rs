//! Hands the sockets of one generation to the next.
//!
//! [`attempt`] is the predecessor's side, [`heritage`] the successor's. They speak in the messages
//! of [`frame`], over a [`channel`] that the successor is [started](spawn) with. What the successor
//! writes to standard error before it serves goes through a [`relay`].

pub(crate) mod aside;
pub(crate) mod attempt;
pub(crate) mod channel;
pub(crate) mod check;
pub(crate) mod checked;
pub(crate) mod frame;
pub(crate) mod heritage;
pub(crate) mod link;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod spawn;
mod successor;

pub use self::{
    check::Check,
    checked::{Checked, CheckedSocket},
    successor::Successor,
};
