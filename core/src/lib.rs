//! Lets a server stop or be replaced without losing one request.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use std::time::Duration;
//!
//! use handover::{Graceful, Phase};
//!
//! let graceful = Graceful::builder().deadline(Duration::from_secs(10)).build();
//!
//! // Work that a stop has to wait for, and that ends when it is told of one.
//! tokio::spawn(graceful.track("index", graceful.draining()));
//!
//! // On a signal, say.
//! graceful.drain();
//! let report = graceful.drained().await;
//! assert!(report.is_complete());
//! assert_eq!(graceful.phase(), Phase::Drained);
//! println!("{report}");
//! # }
//! ```
//!
//! Three things, each useful without the others:
//!
//! - [`Graceful`], a token that triggers, observes and holds open a *drain*: what a server does to
//!   end well. It needs no framework and no feature.
//! - `Accept` and `Tracked` connections (feature `accept`), and `GracefulLayer` (feature
//!   `layer`), which make connections and requests hold a drain open, and end at its deadline.
//! - `Generation` (feature `process`), one process of a service: on Linux it starts the next one, hands
//!   it the listening sockets and the open connections, and takes back if that fails.
//!
//! Serve loops stand on it: `handover-hyper` for any tower service, `handover-axum` for axum. Most
//! programs want one of those, and of this crate the token.
//!
//! # A drain
//!
//! | [`Phase`] | ready | accepts | a request on an open connection | left when |
//! |---|---|---|---|---|
//! | `Running` | yes | yes | served | [`Graceful::drain`] |
//! | `LameDuck` | no | yes | served, and told to go elsewhere | its time is over |
//! | `Draining` | no | no | served, and told to go elsewhere | the last guard has gone |
//! | `Cutting` | no | no | answered with 503, or broken off | the last guard has gone, or a short grace |
//! | `Drained` | no | no | | the process may exit |
//!
//! One deadline covers all of it. What was cut is in the [`Report`].
//!
//! # Features
//!
//! None is on by default: what is left then is the token, which needs tokio's timers and no more.
//!
//! | feature | |
//! |---|---|
//! | `layer` | [`GracefulLayer`](https://docs.rs/handover/latest/handover/layer/), for any tower server |
//! | `accept` | tracked connections over tokio's sockets |
//! | `process` | generations: signals, named and inherited sockets, upgrades, the pid file |
//! | `proxy-protocol` | listeners behind a load balancer that speaks the PROXY protocol |
//! | `full` | all of these |
//! | `log` | `run` writes its log to standard error where the program has set up none |
//!
//! # Cost
//!
//! A guard is one locked instruction to take and one to drop, on a cache line that the thread has to
//! itself; looking at the phase is a load. Nothing is allocated for either. What can be listed is
//! listed only where somebody waits anyway.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(loom))]
mod announced;
mod clock;
mod drain;
mod gate;
mod graceful;
mod guard;
#[cfg(not(loom))]
pub mod health;
mod holder;
#[cfg(not(loom))]
mod lived;
mod phase;
mod policy;
mod reason;
mod report;
mod seconds;
mod shard;
mod signal;
#[cfg(not(loom))]
mod spread;
mod stays;
mod sync;
mod traffic;
mod wait;
#[cfg(not(loom))]
mod waits;

#[cfg(all(test, loom))]
mod models;

#[cfg(all(unix, feature = "process"))]
mod conductor;
#[cfg(all(unix, feature = "process"))]
pub mod control;
#[cfg(all(not(unix), feature = "process"))]
mod elsewhere;
#[cfg(feature = "process")]
#[cfg_attr(not(unix), allow(dead_code, reason = "some of it is for upgrades"))]
mod error;
#[cfg(all(unix, feature = "process"))]
mod fault;
#[cfg(all(unix, feature = "process", any(fuzzing, test)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(unix, feature = "process"))]
mod generation;
#[cfg(all(unix, feature = "process"))]
mod kernel;
#[cfg(all(unix, feature = "process"))]
mod moving;
#[cfg(all(unix, feature = "process"))]
mod pidfile;
#[cfg(feature = "process")]
mod run;
#[cfg(all(unix, feature = "process"))]
mod signals;
#[cfg(feature = "process")]
#[cfg_attr(not(unix), allow(dead_code, reason = "most of it is for upgrades"))]
mod sockets;
#[cfg(all(unix, feature = "process"))]
mod state;
#[cfg(all(unix, feature = "process"))]
pub mod status;
#[cfg(all(not(unix), feature = "process"))]
#[path = "upgrade/successor.rs"]
#[allow(dead_code, reason = "there is none, and it has a name")]
mod successor;
#[cfg(all(unix, feature = "process"))]
pub mod supervise;
#[cfg(all(unix, feature = "process"))]
mod sys;
#[cfg(all(unix, feature = "process"))]
mod systemd;
#[cfg(all(unix, feature = "process"))]
mod text;
#[cfg(all(unix, feature = "process"))]
mod upgrade;

#[cfg(feature = "accept")]
pub mod accept;
#[cfg(feature = "layer")]
pub mod layer;
#[cfg(all(unix, feature = "process"))]
pub mod testing;

#[cfg(all(feature = "layer", not(loom)))]
pub use self::lived::{EventsUntilDrain, UntilDrain};
#[cfg(not(loom))]
pub use self::{
    lived::{Close, ClosePolicy, Closing, Draining},
    spread::{Announcer, Reconnects, Turn},
};

#[cfg(feature = "accept")]
#[doc(inline)]
pub use accept::{Accept, Address, Connection, Tracked};
#[cfg(feature = "layer")]
#[doc(inline)]
pub use layer::{GracefulLayer, GracefulService, HealthLayer, HealthService};

pub use self::{
    graceful::{Builder, Graceful},
    guard::{Guard, Holder},
    holder::{Holding, Kind},
    phase::Phase,
    policy::Policy,
    reason::Reason,
    report::{Report, Tally},
    stays::{Stayed, Stays},
    traffic::Traffic,
    wait::{Drained, Phases, Reached},
};

#[cfg(all(not(unix), feature = "process"))]
pub use self::{
    elsewhere::{Generation, GenerationBuilder, Listener, Stream},
    successor::Successor,
};
#[cfg(feature = "process")]
pub use self::{
    error::Error,
    run::{run, run_generation},
};
#[cfg(all(unix, feature = "process"))]
pub use self::{
    generation::{Generation, GenerationBuilder},
    signals::{Action, Signals},
    sockets::{Difference, Listener, Seqpacket, SeqpacketListener, SocketOptions, Stream},
    state::{State, StateReader},
    status::Status,
    upgrade::{Check, Checked, CheckedSocket, Successor},
};
