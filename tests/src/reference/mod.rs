//! What the reference servers serve, and the flags they take.
//!
//! The servers differ in how they stand on Handover; what they answer and how
//! they are started is the same, and is here.

mod actix_app;
mod axum_app;
pub mod bare;
mod fault;
mod flags;
mod grpc;
mod grpc_bare;
mod listen;
mod ready;
mod setup;
mod surface;
mod warp_app;

pub use self::{
    actix_app::app,
    axum_app::router,
    fault::Fault,
    flags::Flags,
    grpc::{pb, routes},
    grpc_bare::run as run_bare_tonic,
    listen::Listen,
    ready::ready_line,
    setup::{Setup, start},
    surface::Info,
    warp_app::filter,
};
