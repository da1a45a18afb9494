//! Handover for warp: a server that stops, and is replaced, without losing one request.
//!
//! - [`run`] is the whole of it in one line: signals, inherited sockets, readiness, upgrade, drain.
//! - [`serve`] has the shape of [`warp::serve`], on Handover's loop.
//! - [`remote`], [`peer`] and [`graceful`] are filters for what handlers ask of that loop.
//! - [`foreign`] is for who has to keep [`warp::serve`], and says what that cannot do.
//!
//! `warp::addr::remote()` finds nothing here: the type that it looks for is private to warp's own
//! server. Use [`remote`], which has its signature.

mod filters;
pub mod foreign;
#[cfg(unix)]
mod run;
mod server;

#[cfg(unix)]
pub use self::run::run;
#[cfg(feature = "tls")]
pub use self::run::run_tls;
pub use self::{
    filters::{graceful, peer, remote},
    server::{Server, serve},
};
