//! Lets a server stop or be replaced without losing one request.

mod clock;
mod drain;
mod gate;
mod graceful;
mod guard;
mod holder;
mod phase;
mod policy;
mod reason;
mod report;
mod shard;
mod signal;
mod sync;
mod wait;

#[cfg(all(test, loom))]
mod models;

#[cfg(all(unix, feature = "process"))]
mod conductor;
#[cfg(all(unix, feature = "process"))]
mod error;
#[cfg(all(unix, feature = "process"))]
mod generation;
#[cfg(all(unix, feature = "process"))]
mod moving;
#[cfg(all(unix, feature = "process"))]
mod pidfile;
#[cfg(all(unix, feature = "process"))]
mod signals;
#[cfg(all(unix, feature = "process"))]
mod sockets;
#[cfg(all(unix, feature = "process"))]
mod sys;
#[cfg(all(unix, feature = "process"))]
mod systemd;
#[cfg(all(unix, feature = "process"))]
mod upgrade;

#[cfg(feature = "accept")]
pub mod accept;
#[cfg(feature = "layer")]
pub mod layer;

#[cfg(feature = "accept")]
#[doc(inline)]
pub use accept::{Accept, Address, Connection, Tracked};
#[cfg(feature = "layer")]
#[doc(inline)]
pub use layer::{GracefulLayer, GracefulService};

pub use self::{
    graceful::{Builder, Graceful},
    guard::{Guard, Holder},
    holder::{Holding, Kind},
    phase::Phase,
    policy::Policy,
    reason::Reason,
    report::{Report, Tally},
    wait::{Drained, Phases, Reached},
};

#[cfg(all(unix, feature = "process"))]
pub use self::{
    error::Error,
    generation::{Generation, GenerationBuilder},
    signals::{Action, Signals},
    sockets::{Listener, Stream},
    upgrade::Successor,
};
