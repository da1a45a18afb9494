//! What the handles, the conductor and the tasks of one generation share.
//!
//! Invariants:
//! 1. The pid file and the socket files are removed at most once, by [`Shared::end`], and only if
//!    no successor has them and no predecessor can come back to them. It runs when the drain is
//!    over, or, if the program ends earlier, when the last reference goes: that is at the latest
//!    when the runtime is dropped.
//! 2. The gate is open only from the commit (or `ready`, in a first generation) on, and shut while
//!    a successor serves.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    task::JoinHandle,
};

use crate::{
    Graceful,
    conductor::Request,
    control::socket::ControlSocket,
    error::{Error, Kind},
    generation::older::OlderGenerations,
    moving::{inbound::Adopters, outbound::Route},
    pidfile::{PidFile, Prepared},
    sockets::{gate::Gate, held::Passing, registry::Registry, unix_path::OwnedPath},
    state::{Providers, State, StateReader},
    status::journal::Journal,
    systemd::{Manager, store::Kept},
    testing::Seat,
    upgrade::{
        aside::in_any_case, channel::Channel, check::Inquiry, frame::Message, spawn::Program,
    },
};

/// Told of a failed upgrade.
pub(crate) type Hook = Arc<dyn Fn(&Error) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) graceful: Graceful,
    pub(crate) number: u64,
    /// As the program says.
    pub(crate) release: Option<String>,
    /// This process only shows that it could start.
    pub(crate) check: bool,
    /// Each upgrade begins with a check.
    pub(crate) check_first: bool,
    pub(crate) max_draining: usize,
    pub(crate) older: OlderGenerations,
    pub(crate) program: Program,
    /// Where this generation runs if it is not a process, but part of a user's test.
    pub(crate) seat: Option<Arc<Seat>>,
    /// Absolute.
    pub(crate) pid_path: Option<PathBuf>,
    pub(crate) ready_timeout: Duration,
    pub(crate) probation: Duration,
    pub(crate) gate: Gate,
    /// As the gate, for the control socket; it is open in a first generation that starts, too.
    pub(crate) control_gate: Gate,
    pub(crate) control: Option<ControlSocket>,
    /// The file of one that was inherited and is not used: its path has changed.
    pub(crate) unused_control: Mutex<Option<OwnedPath>>,
    pub(crate) journal: Arc<Journal>,
    /// How connections go to a successor, and come from a predecessor.
    pub(crate) route: Route,
    pub(crate) adopters: Adopters,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) providers: Mutex<Providers>,
    pub(crate) failure_hooks: Mutex<Vec<Hook>>,
    pub(crate) left: Mutex<HashMap<String, State>>,
    /// Until we are ready.
    pub(crate) left_streams: Mutex<HashMap<String, StateReader>>,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) pid_file: Mutex<Option<PidFile>>,
    /// Set at the end of `ready`, once.
    pub(crate) ready: AtomicBool,
    /// There is no predecessor that may serve again: [`Shared::become_alone`].
    pub(crate) alone: AtomicBool,
    /// Held while `ready` is under way.
    pub(crate) becoming_ready: tokio::sync::Mutex<()>,
    /// A successor serves.
    pub(crate) handed_over: AtomicBool,
    /// The first panic before we were ready, in words.
    pub(crate) panic: Mutex<Option<String>>,
    pub(crate) requests: UnboundedSender<Request>,
    pub(crate) finished: watch::Sender<bool>,
    /// Who wants to be told what becomes of the service.
    pub(crate) manager: Arc<Manager>,
}

/// Who was here before us.
pub(crate) struct Predecessor {
    pub(crate) pid: u32,
    pub(crate) channel: Arc<Channel>,
    /// The real standard error, and the reading end of the pipe in its place. Until we are ready.
    pub(crate) stderr: Mutex<Option<(OwnedFd, OwnedFd)>>,
}

impl Shared {
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Returns true while a successor serves.
    pub(crate) fn has_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// A check of the program of the next generation.
    pub(crate) fn inquiry(&self, journal: Option<Arc<Journal>>) -> Result<Inquiry, Error> {
        if self.seat.is_some() {
            let message = "there is no program to check: this generation is part of a test";
            return Err(Error::new(Kind::Spawn, message));
        }
        Ok(Inquiry {
            program: self.program.clone(),
            generation: self.number + 1,
            timeout: self.ready_timeout,
            journal,
        })
    }

    /// All sockets, for a successor.
    pub(crate) fn sockets_for_successor(&self) -> std::io::Result<Arc<Passing>> {
        let control = self.control.as_ref().map(ControlSocket::for_successor);
        self.registry().for_successor(control.transpose()?)
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    /// Returns true if this stands for a process that was killed, and so does nothing more.
    pub(crate) fn is_killed(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.is_killed())
    }

    /// Says something to the predecessor, if there is one and it is still there.
    pub(crate) fn tell_predecessor(&self, message: &Message) {
        if self.is_killed() {
            return;
        }
        if let Some(predecessor) = &self.predecessor
            && let Err(err) = predecessor.channel.try_send(message)
        {
            tracing::debug!(predecessor = predecessor.pid, ?message, %err, "not told");
        }
    }

    /// Tells the program that an upgrade has failed. What is returned ends when all hooks have.
    pub(crate) fn upgrade_failed(&self, err: &Error) -> JoinHandle<()> {
        let hooks = lock(&self.failure_hooks).clone();
        let err = err.clone();
        // If this process is to stop, not before it has undone what is to be undone.
        let guard = self.graceful.guard();
        tokio::spawn(async move {
            // The user's code may block, and may panic.
            in_any_case(move || hooks.iter().for_each(|hook| hook(&err))).await;
            drop(guard);
        })
    }

    /// Writes the pid file again, after a successor that may have written its own has died.
    pub(crate) fn reclaim_pid_file(&self) {
        let Some(path) = &self.pid_path else { return };
        // Still there if the successor died before it came to that.
        let mut ours = lock(&self.pid_file);
        if ours.as_ref().is_some_and(PidFile::is_ours) {
            return;
        }
        // Its lock went with it.
        match Prepared::new(path, &[]).and_then(|file| file.publish(&[])) {
            Ok(file) => *ours = Some(file),
            Err(err) => tracing::error!(err = err.chain(), "the pid file names a dead process"),
        }
    }

    /// No predecessor will serve again: it has gone, or knows that what becomes of us is meant.
    pub(crate) fn become_alone(&self) {
        self.alone.store(true, Ordering::Release);
        self.registry().remove_unused_paths();
        if let Some(path) = lock(&self.unused_control).take() {
            path.remove();
        }
    }

    /// Lets the service manager keep the sockets that this generation uses, and no others, if it
    /// keeps any. For the main process, once no predecessor can come back to what is there.
    pub(crate) fn keep_in_store(&self) {
        if self.alone.load(Ordering::Acquire) {
            self.change_store(|registry| registry.to_store(self.manager.room()));
        }
    }

    /// There is another socket, it may be after `ready`.
    pub(crate) fn socket_added(&self) {
        if self.is_ready() && !self.manager.is_stopping() {
            self.keep_in_store();
        }
    }

    /// The service is to stop: says so, and lets the service manager keep nothing.
    pub(crate) fn tell_of_stop(&self) {
        self.manager.stopping(&self.graceful);
        self.change_store(|_| Ok(Vec::new()));
    }

    /// The service manager knows this process as the main one.
    pub(crate) fn become_main(&self) {
        self.manager.become_main();
        // What was said before was not heard.
        if self.manager.is_stopping() {
            self.tell_of_stop();
        }
    }

    fn change_store(&self, wanted: impl FnOnce(&Registry) -> std::io::Result<Vec<Kept>>) {
        if !self.manager.keeps() || !self.manager.is_main() {
            return;
        }
        // Until all is sent, so that what was decided first is heard first.
        let _one_at_a_time = lock(&self.manager.changing);
        let mut registry = self.registry();
        let plan = wanted(&registry).map(|wanted| registry.ledger.plan(wanted));
        drop(registry);
        match plan {
            Ok(plan) => self.manager.carry_out(plan),
            Err(err) => tracing::warn!(%err, "the service manager does not keep our sockets"),
        }
    }

    /// Removes what only the last generation may remove.
    pub(crate) fn end(&self) {
        if self.is_killed() {
            return;
        }
        if !self.has_handed_over() {
            let alone = self.alone.load(Ordering::Acquire);
            if let Some(control) = &self.control {
                control.remove(alone);
            }
            let mut registry = self.registry();
            registry.remove_opened_paths();
            if alone {
                registry.remove_claimed_paths();
            }
        }
        // Looks itself whether the file is still ours.
        if let Some(file) = lock(&self.pid_file).take() {
            file.remove();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end();
    }
}

/// Nothing that can panic runs under these locks, and what they hold is whole at every moment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
