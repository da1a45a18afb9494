//! A generation where there is no Unix: it binds its sockets, serves, drains, and has no successor.
//!
//! It has the names of the real one, so that a program for both is written once. Whatever is for an
//! upgrade does nothing here, and [`Generation::upgrade`] says that it is unsupported.

mod builder;
mod listener;

use std::{
    fmt,
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::net::{TcpListener, UdpSocket};

pub use self::{
    builder::GenerationBuilder,
    listener::{Listener, Stream},
};
use crate::{
    Graceful, Successor,
    error::{Error, Kind},
    health::Health,
    sockets::{
        gate::Gate,
        spec::{Place, Spec},
    },
};

/// One process of a service. On this system it is the only one: there are no upgrades.
///
/// It drains at Ctrl-C, Ctrl-Break, and when the console is closed or the system shuts down; a
/// second one cuts.
#[derive(Clone)]
pub struct Generation {
    shared: Arc<Shared>,
}

struct Shared {
    graceful: Graceful,
    gate: Gate,
    ready: AtomicBool,
}

impl Generation {
    /// Starts this generation, with the defaults of [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As for [`GenerationBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Sets a generation up step by step.
    pub fn builder() -> GenerationBuilder {
        GenerationBuilder::new()
    }

    fn new(graceful: Graceful) -> Self {
        Self {
            shared: Arc::new(Shared {
                graceful,
                gate: Gate::default(),
                ready: AtomicBool::new(false),
            }),
        }
    }

    /// The token that signals drain.
    #[must_use]
    pub fn graceful(&self) -> Graceful {
        self.shared.graceful.clone()
    }

    /// What probes are answered with: it has started once it is [`ready`](Self::ready).
    #[must_use]
    pub fn health(&self) -> Health {
        let shared = Arc::clone(&self.shared);
        Health::new(self.graceful()).started_when(move || shared.ready.load(Ordering::Acquire))
    }

    /// How many generations were before this one: none.
    #[must_use]
    pub fn number(&self) -> u64 {
        0
    }

    /// Returns true if a predecessor handed over to this process, which is never so.
    #[must_use]
    pub fn is_successor(&self) -> bool {
        false
    }

    /// Listens on an address: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, each with a name and
    /// `=` before it if it is to have one.
    ///
    /// The listener accepts nothing before this generation is [`ready`](Self::ready).
    ///
    /// # Errors
    ///
    /// If the address cannot be read, resolved or bound, or is a Unix socket's.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, nothing has happened.
    pub async fn listen(&self, address: impl AsRef<str>) -> Result<Listener, Error> {
        let text = address.as_ref();
        let (name, place) = place(text)?;
        let listener = TcpListener::bind(place)
            .await
            .map_err(|err| Error::io(Kind::Listen, format!("cannot listen on {text:?}"), err))?;
        Ok(Listener::new(name, listener, self.shared.gate.pass()))
    }

    /// Binds a UDP socket. Addresses are as for [`listen`](Self::listen).
    ///
    /// # Errors
    ///
    /// As for [`listen`](Self::listen).
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, nothing has happened.
    pub async fn bind_udp(&self, address: impl AsRef<str>) -> Result<UdpSocket, Error> {
        let text = address.as_ref();
        let (_, place) = place(text)?;
        UdpSocket::bind(place)
            .await
            .map_err(|err| Error::io(Kind::Listen, format!("cannot bind UDP to {text:?}"), err))
    }

    /// Says what the program does while it starts. It is logged.
    pub fn progress(&self, text: impl Into<String>) {
        tracing::info!(progress = %text.into(), "starting");
    }

    /// Keeps something for a successor, of which there will be none.
    pub fn keep_state<F>(&self, name: impl Into<String>, version: u32, provider: F)
    where
        F: Fn() -> io::Result<Vec<u8>> + Send + Sync + 'static,
    {
        let _ = (name.into(), version, provider);
    }

    /// Calls a hook whenever an upgrade has failed. One that is unsupported is refused, and has not
    /// failed.
    pub fn on_upgrade_failed<F>(&self, hook: F)
    where
        F: Fn(&Error) + Send + Sync + 'static,
    {
        let _ = hook;
    }

    /// This process serves: listeners accept from here on. A second call does nothing.
    ///
    /// # Errors
    ///
    /// None on this system.
    pub async fn ready(&self) -> Result<(), Error> {
        if !self.shared.ready.swap(true, Ordering::AcqRel) {
            self.shared.gate.open();
            tracing::info!(pid = std::process::id(), "serving");
        }
        Ok(())
    }

    /// Starts a successor where that can be done.
    ///
    /// # Errors
    ///
    /// Always, on this system: [`Error::is_unsupported`].
    pub async fn upgrade(&self) -> Result<Successor, Error> {
        let message = "this system cannot pass sockets from one process to the next; stop the \
                       service and start it again";
        Err(Error::new(Kind::Unsupported, message))
    }

    /// Ends when the drain is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub fn finished(&self) -> impl Future<Output = ()> + Send + 'static {
        let drained = self.shared.graceful.drained();
        async move { drop(drained.await) }
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("ready", &self.shared.ready.load(Ordering::Acquire))
            .finish_non_exhaustive()
    }
}

fn place(text: &str) -> Result<(String, (String, u16)), Error> {
    let spec = Spec::parse(text)?;
    match spec.place {
        Place::Ip { host, port } => Ok((spec.name, (host, port))),
        _ => {
            let message =
                format!("cannot listen on {text:?}: this system has no Unix sockets here");
            Err(Error::new(Kind::Address, message))
        }
    }
}
