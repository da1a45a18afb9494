//! One generation in a thread.
//!
//! Invariants:
//! 1. A seat's outcome is set once, by its thread, when the runtime with all its tasks has gone: as
//!    with a process that is reaped, nothing of it reads a connection any more.
//! 2. A seat that was killed says nothing: neither to its predecessor nor to its successor, and it
//!    removes nothing.

use std::{
    fmt, io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitStatus,
    sync::{Arc, Mutex, Weak},
    thread,
    time::Duration,
};

use tokio::{runtime::Runtime, sync::watch};

use super::{Outcome, service::Inner};
use crate::{
    GenerationBuilder, Graceful, Reason,
    generation::shared::{Shared, lock},
};

/// How long tasks that do not await are waited for once their generation has been killed.
const UNWILLING: Duration = Duration::from_secs(1);

/// What a generation shares with the test that started it.
pub(crate) struct Seat {
    pub(super) number: u64,
    service: Weak<Inner>,
    /// Until the generation is started.
    channel: Mutex<Option<OwnedFd>>,
    generation: Mutex<Weak<Shared>>,
    graceful: Graceful,
    ready: watch::Sender<bool>,
    killed: watch::Sender<bool>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Seat {
    /// Starts the next generation of a service. `channel` is that to its predecessor.
    pub(super) fn start(
        service: &Arc<Inner>,
        number: u64,
        channel: Option<OwnedFd>,
    ) -> io::Result<Arc<Self>> {
        let seat = Arc::new(Self {
            number,
            service: Arc::downgrade(service),
            channel: Mutex::new(channel),
            generation: Mutex::new(Weak::new()),
            graceful: Graceful::new(),
            ready: watch::Sender::new(false),
            killed: watch::Sender::new(false),
            outcome: watch::Sender::new(None),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("generation-{number}"))
            .enable_all()
            .build()?;
        let (here, service) = (Arc::clone(&seat), Arc::clone(service));
        thread::Builder::new()
            .name(format!("generation-{number}"))
            .spawn(move || here.run(&service, runtime))?;
        Ok(seat)
    }

    fn run(self: Arc<Self>, service: &Inner, runtime: Runtime) {
        let builder = GenerationBuilder::in_test(Arc::clone(&self));
        let mut killed = self.killed.subscribe();
        let program = async {
            tokio::select! {
                biased;
                _ = killed.wait_for(|killed| *killed) => Outcome::Killed,
                result = service.call(builder) => match result {
                    Ok(()) => Outcome::Success,
                    Err(err) => Outcome::Failed(err.to_string()),
                },
            }
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(program)));
        let outcome = outcome.unwrap_or_else(|panic| Outcome::Panicked(words(&*panic)));
        match outcome {
            Outcome::Killed => runtime.shutdown_timeout(UNWILLING),
            // As at the end of a `main`.
            _ => drop(runtime),
        }
        self.outcome.send_replace(Some(outcome));
    }

    /// Starts the successor of this one.
    pub(crate) fn launch(self: &Arc<Self>, channel: OwnedFd) -> io::Result<Thread> {
        let service = self.service.upgrade().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "the test has let go of its service",
            )
        })?;
        Ok(Thread {
            seat: service.launch(self.number + 1, Some(channel))?,
            predecessor: Arc::clone(self),
        })
    }

    pub(crate) fn take_channel(&self) -> Option<OwnedFd> {
        lock(&self.channel).take()
    }

    pub(crate) fn started(&self, generation: &Arc<Shared>) {
        *lock(&self.generation) = Arc::downgrade(generation);
    }

    pub(crate) fn became_ready(&self) {
        self.ready.send_replace(true);
    }

    pub(crate) fn is_killed(&self) -> bool {
        *self.killed.borrow()
    }

    pub(super) fn kill(&self) {
        self.killed.send_replace(true);
    }

    pub(super) fn generation(&self) -> Option<Arc<Shared>> {
        lock(&self.generation).upgrade()
    }

    /// That of the generation, once it has been started.
    pub(crate) fn graceful(&self) -> Graceful {
        let generation = self.generation();
        generation.map_or_else(|| self.graceful.clone(), |shared| shared.graceful.clone())
    }

    /// Ends when it is ready, or with what became of it before.
    pub(super) async fn ready(&self) -> Result<(), Outcome> {
        let mut ready = self.ready.subscribe();
        tokio::select! {
            biased;
            // The sender is ours, so it is there.
            _ = ready.wait_for(|ready| *ready) => Ok(()),
            outcome = self.ended() => Err(outcome),
        }
    }

    pub(super) async fn ended(&self) -> Outcome {
        let mut outcome = self.outcome.subscribe();
        let ended = outcome.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|outcome| outcome.clone())
            .unwrap_or(Outcome::Killed)
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("number", &self.number)
            .field("outcome", &*self.outcome.borrow())
            .finish_non_exhaustive()
    }
}

/// A successor, as its predecessor sees it.
#[derive(Debug)]
pub(crate) struct Thread {
    seat: Arc<Seat>,
    predecessor: Arc<Seat>,
}

impl Thread {
    pub(crate) async fn wait(&self) -> ExitStatus {
        ExitStatus::from_raw(match self.seat.ended().await {
            Outcome::Success => 0,
            Outcome::Failed(_) => 1 << 8,
            Outcome::Panicked(_) => 101 << 8,
            Outcome::Killed => 9,
        })
    }

    pub(crate) fn kill(&self) {
        // What a killed process did not do, its thread must not do as its tasks are dropped.
        if !self.predecessor.is_killed() {
            self.seat.kill();
        }
    }

    pub(crate) fn terminate(&self) {
        self.seat.graceful().drain_for(Reason::Program);
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}
