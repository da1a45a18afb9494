//! How a generation starts where there is no Unix.

use std::{ffi::OsString, io, time::Duration};

use tokio::runtime::Handle;

use super::Generation;
use crate::{
    Graceful, Phase,
    error::{Error, Kind},
};

/// Sets up a [`Generation`]. Made by [`Generation::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct GenerationBuilder {
    graceful: Graceful,
    signals: bool,
}

impl GenerationBuilder {
    pub(super) fn new() -> Self {
        Self {
            graceful: Graceful::new(),
            signals: true,
        }
    }

    /// The token that signals drain. A new one by default.
    pub fn graceful(mut self, graceful: Graceful) -> Self {
        self.graceful = graceful;
        self
    }

    /// For the status of a service. Does nothing on this system.
    pub fn release(self, _: impl Into<String>) -> Self {
        self
    }

    /// Leaves the console's events alone.
    pub fn no_signals(mut self) -> Self {
        self.signals = false;
        self
    }

    /// For upgrades. Does nothing on this system.
    pub fn ready_timeout(self, _: Duration) -> Self {
        self
    }

    /// For upgrades. Does nothing on this system.
    pub fn probation(self, _: Duration) -> Self {
        self
    }

    /// For upgrades. Does nothing on this system.
    pub fn move_timeout(self, _: Duration) -> Self {
        self
    }

    /// For upgrades. Does nothing on this system.
    pub fn lazy_adoption(self, _: bool) -> Self {
        self
    }

    /// For upgrades. Does nothing on this system.
    pub fn check_first(self, _: bool) -> Self {
        self
    }

    /// For upgrades. Does nothing on this system.
    pub fn max_draining(self, _: usize) -> Self {
        self
    }

    /// For upgrades. Does nothing on this system.
    pub fn program(self, _: impl Into<OsString>) -> Self {
        self
    }

    /// For upgrades. Does nothing on this system.
    pub fn args<I>(self, _: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self
    }

    /// Starts the generation.
    ///
    /// # Errors
    ///
    /// If there is no tokio runtime, or the console's events cannot be handled.
    pub fn start(self) -> Result<Generation, Error> {
        if Handle::try_current().is_err() {
            let message = "a generation needs a tokio runtime; start it inside one \
                           (#[tokio::main], or Runtime::enter)";
            return Err(Error::new(Kind::NoRuntime, message));
        }
        if self.signals {
            let failed = |err| Error::io(Kind::Signal, "cannot handle the console's events", err);
            listen(self.graceful.clone()).map_err(failed)?;
        }
        Ok(Generation::new(self.graceful))
    }
}

/// Drains at the first event, and cuts at the second.
#[cfg(windows)]
fn listen(graceful: Graceful) -> io::Result<()> {
    use tokio::signal::windows;

    let (mut interrupt, mut stop) = (windows::ctrl_c()?, windows::ctrl_break()?);
    let (mut close, mut shutdown) = (windows::ctrl_close()?, windows::ctrl_shutdown()?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = stop.recv() => {}
                _ = close.recv() => {}
                _ = shutdown.recv() => {}
            }
            act(&graceful);
        }
    });
    Ok(())
}

#[cfg(not(windows))]
fn listen(graceful: Graceful) -> io::Result<()> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            act(&graceful);
        }
    });
    Ok(())
}

fn act(graceful: &Graceful) {
    if graceful.phase() == Phase::Running {
        tracing::info!("told to stop, draining; once more cuts");
        graceful.drain();
    } else {
        tracing::warn!("told to stop a second time, cutting");
        graceful.cut();
    }
}
