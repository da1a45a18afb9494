//! Lets a server stop or be replaced without losing one request.

mod phase;
mod reason;

#[cfg(feature = "accept")]
pub mod accept;

pub use self::{phase::Phase, reason::Reason};
#[cfg(feature = "accept")]
#[doc(inline)]
pub use accept::{Accept, Address};

#[cfg(all(unix, feature = "process"))]
mod error;
#[cfg(all(unix, feature = "process"))]
mod pidfile;
#[cfg(all(unix, feature = "process"))]
mod sockets;
#[cfg(all(unix, feature = "process"))]
mod sys;
#[cfg(all(unix, feature = "process"))]
mod upgrade;

#[cfg(all(unix, feature = "process"))]
pub use self::{
    error::Error,
    sockets::{Listener, Stream},
    upgrade::Successor,
};
