//! The server processes.

pub(crate) mod axum;
pub(crate) mod handover;
