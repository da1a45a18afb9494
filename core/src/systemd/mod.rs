//! What a service manager is told: that the service is ready, which process is the main one, that
//! it reloads, that it lives, that it stops, and which sockets to keep for the next one.
//!
//! It works with `Type=notify` and `Type=notify-reload` (systemd 253), with `NotifyAccess=main`, the
//! default: each message is sent by the process that is the main one at that moment.
//!
//! | when | who | message |
//! |---|---|---|
//! | a first generation starts | it | `STATUS`, `EXTEND_TIMEOUT_USEC` at each progress |
//! | it is ready | it | `FDSTORE` for each socket that it bound, `READY=1` |
//! | always | the main process | `WATCHDOG=1`, twice in the time that the manager waits |
//! | an upgrade begins | the predecessor | `RELOADING=1`, `MONOTONIC_USEC` |
//! | while the successor starts | the predecessor | `EXTEND_TIMEOUT_USEC`, `STATUS` with its progress |
//! | it failed | the predecessor | `READY=1`, `STATUS` with the reason |
//! | the successor serves | the predecessor | `MAINPID` of the successor, `READY=1`, then a barrier |
//! | the predecessor has gone | the successor | `FDSTORE`, `FDSTOREREMOVE`: what differs |
//! | the predecessor has died | the heir | its own `MAINPID`, `READY=1` (heard with `NotifyAccess=all`) |
//! | the successor has died | the predecessor | its own `MAINPID`, `READY=1` (likewise) |
//! | the service is to stop | the last generation | `STOPPING=1`, `FDSTOREREMOVE` |
//! | while it drains | the last generation | `EXTEND_TIMEOUT_USEC`, `STATUS` with what is left |
//!
//! A [supervisor](crate::supervise) speaks the same language, and follows all processes of the
//! service: there each of them speaks, and three things more are said.
//!
//! | when | who | message |
//! |---|---|---|
//! | a first generation is ready | it | `X_HANDOVER_UPGRADE_SIGNAL`, with `READY=1` |
//! | a successor was started | the predecessor | `X_HANDOVER_SUCCESSOR`, its process id |
//! | the successor is the main process | it | `X_HANDOVER_UPGRADE_SIGNAL` |
//!
//! A generation that has handed over never says that it stops: that would be taken for the service.
//! Without `NOTIFY_SOCKET` in the environment nothing of this happens.
//!
//! Invariants:
//! 1. Only the main process speaks, except to say that it is the main one from now on, and except
//!    to a supervisor.
//! 2. The fd store is what the oldest generation needs that may serve again: a successor changes
//!    nothing in it before its predecessor has gone.
//! 3. No more time is asked for than our own deadline leaves and [`pulse::GRACE`].

mod environment;
pub(crate) mod name;
pub(crate) mod pulse;
mod socket;
pub(crate) mod store;

use std::{
    fmt::{Display, Write},
    os::fd::AsFd,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

pub use self::socket::Notifier;
use self::{environment::Environment, socket::monotonic_usec, store::Plan};
use crate::{Graceful, supervise, text::shortened};

/// The variable that names the process from which signs of life are expected.
pub(crate) const WATCHDOG_PID: &str = "WATCHDOG_PID";
/// The longest status.
const STATUS: usize = 512;
/// Progress that follows sooner is not passed on.
const PACE: Duration = Duration::from_millis(100);

/// The service manager, as one generation knows it.
#[derive(Debug)]
pub(crate) struct Manager {
    environment: Environment,
    generation: u64,
    /// It is a supervisor, which may ask for an upgrade by this signal, if there is one.
    supervisor: Option<Option<i32>>,
    /// Whether this is the main process, to which alone the manager listens.
    main: watch::Sender<bool>,
    /// The service is to stop.
    stopping: AtomicBool,
    /// What a successor that starts says it does.
    progress: watch::Sender<String>,
    /// When our own progress was passed on.
    progressed: Mutex<Option<Instant>>,
    /// Held while the store is changed.
    pub(crate) changing: Mutex<()>,
}

impl Manager {
    /// Finds the manager in the environment. `main` is whether this process is the one that it
    /// started; `store` whether it is to keep sockets, `None` if that is for it to decide.
    pub(crate) fn new(generation: u64, main: bool, store: Option<bool>) -> Self {
        let env = |name: &str| std::env::var_os(name);
        let environment = Environment::read(env, std::process::id(), store);
        Self::of(environment, generation, main)
    }

    /// None, whatever the environment says.
    pub(crate) fn absent(generation: u64) -> Self {
        Self::of(Environment::default(), generation, false)
    }

    fn of(environment: Environment, generation: u64, main: bool) -> Self {
        Self {
            environment,
            generation,
            supervisor: None,
            main: watch::Sender::new(main),
            stopping: AtomicBool::new(false),
            progress: watch::Sender::default(),
            progressed: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    /// It is a supervisor, which asks for an upgrade by this signal.
    pub(crate) fn of_supervisor(mut self, upgrade_signal: Option<i32>) -> Self {
        self.supervisor = Some(upgrade_signal);
        self
    }

    /// Returns true if a manager wants to be told.
    pub(crate) fn is_listening(&self) -> bool {
        self.environment.notifier.is_some()
    }

    /// Returns true if this is the main process.
    pub(crate) fn is_main(&self) -> bool {
        *self.main.borrow()
    }

    /// Returns true if the service is to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Returns true if it keeps sockets for us.
    pub(crate) fn keeps(&self) -> bool {
        self.environment.store.is_some()
    }

    /// Returns true if it waits for signs of life from this service.
    pub(crate) fn watches(&self) -> bool {
        self.environment.watchdog.is_some()
    }

    /// A first generation is not ready yet.
    pub(crate) fn starting(&self, text: &str) {
        let mut progressed = crate::generation::shared::lock(&self.progressed);
        if progressed.is_some_and(|last| last.elapsed() < PACE) {
            return;
        }
        *progressed = Some(Instant::now());
        let ask = pulse::STEP + pulse::GRACE;
        self.tell(
            &Message::default()
                .status(format_args!("starting: {text}"))
                .extend(ask),
        );
    }

    /// A successor is not ready yet.
    pub(crate) fn successor_starting(&self, text: &str) {
        self.progress.send_replace(text.to_owned());
    }

    /// A first generation serves, or an upgrade has failed and this process serves on.
    pub(crate) fn serves(&self, failure: Option<&str>) {
        let mut status = format!("generation {} serves", self.generation);
        if let Some(failure) = failure {
            let _ = write!(status, "; the last upgrade failed: {failure}");
        }
        self.tell(&self.upgradable(Message::default().line("READY=1").status(status)));
    }

    /// A successor was started. A supervisor follows it from here on: it may be the heir.
    pub(crate) fn successor_started(&self, pid: u32) {
        if self.supervisor.is_some() {
            let successor = supervise::SUCCESSOR;
            self.tell(&Message::default().line(format_args!("{successor}={pid}")));
        }
    }

    /// An upgrade begins.
    pub(crate) fn reloading(&self) {
        // A reload is known by its time, which the manager compares with that of its signal.
        let message = Message::default().line("RELOADING=1");
        self.tell(&message.line(format_args!("MONOTONIC_USEC={}", monotonic_usec())));
    }

    /// The service is to stop.
    pub(crate) fn stopping(&self, graceful: &Graceful) {
        self.stopping.store(true, Ordering::Release);
        // How far the drain is takes a look at all that holds it open.
        if !self.is_listening() {
            return;
        }
        let message = Message::default().line("STOPPING=1");
        self.tell(&pulse::drain(message, graceful, &mut String::new()));
    }

    /// A successor serves, and is the main process. Blocks until the manager has heard, or for a
    /// while.
    pub(crate) fn handed_over(&self, successor: u32, generation: u64) {
        let Some(notifier) = &self.environment.notifier else {
            return;
        };
        let message = Message::default()
            .line(format_args!("MAINPID={successor}"))
            .line("READY=1")
            .status(format_args!("generation {generation} serves"));
        // With the last sign of life of this process, so that the other has all the time there is.
        let message = self.sign_of_life(message);
        self.main.send_replace(false);
        report(notifier.send(&message.0, &[]));
        if let Err(err) = notifier.barrier() {
            tracing::warn!(%err, "the service manager may not know yet which process is the main one");
        }
    }

    /// Waits until this is the main process, if it is to be.
    pub(crate) async fn until_main(&self) {
        let mut main = self.main.subscribe();
        // A predecessor says it after a barrier, and at the latest by its end.
        let _ = tokio::time::timeout(2 * socket::BARRIER, main.wait_for(|main| *main)).await;
    }

    /// The predecessor has told the manager that this process is the main one.
    pub(crate) fn become_main(&self) {
        self.main.send_replace(true);
        if self.supervisor.is_some() {
            self.tell(&self.upgradable(Message::default()));
        }
    }

    /// This process is the main one now: the other has died.
    pub(crate) fn alone(&self) {
        self.main.send_replace(true);
        let message = Message::default()
            .line(format_args!("MAINPID={}", std::process::id()))
            .line("READY=1")
            .status(format_args!("generation {} serves", self.generation));
        self.tell(&self.upgradable(self.sign_of_life(message)));
    }

    /// Lets the manager keep what it should.
    pub(crate) fn carry_out(&self, plan: Plan) {
        for name in &plan.remove {
            self.tell(&Message::default().line("FDSTOREREMOVE=1").name(name));
        }
        let Some(notifier) = &self.environment.notifier else {
            return;
        };
        for kept in &plan.add {
            let mut message = Message::default().line("FDSTORE=1").name(&kept.name);
            if !kept.polled {
                message = message.line("FDPOLL=0");
            }
            report(notifier.send(&message.0, &[kept.fd.as_fd()]));
        }
        if !plan.add.is_empty() || !plan.remove.is_empty() {
            let (added, removed) = (plan.add.len(), plan.remove.len());
            tracing::debug!(added, removed, "the service manager keeps our sockets");
        }
    }

    /// How many descriptors it keeps.
    pub(crate) fn room(&self) -> usize {
        self.environment.store.unwrap_or_default()
    }

    fn sign_of_life(&self, message: Message) -> Message {
        if self.watches() {
            message.line("WATCHDOG=1")
        } else {
            message
        }
    }

    /// Tells a supervisor how to ask this process for an upgrade.
    fn upgradable(&self, message: Message) -> Message {
        match self.supervisor {
            Some(signal) => {
                let (name, signal) = (supervise::UPGRADE_SIGNAL, signal.unwrap_or_default());
                message.line(format_args!("{name}={signal}"))
            }
            None => message,
        }
    }

    fn tell(&self, message: &Message) {
        if let Some(notifier) = &self.environment.notifier
            && (self.is_main() || self.supervisor.is_some())
            && !message.0.is_empty()
        {
            report(notifier.send(&message.0, &[]));
        }
    }
}

fn report(sent: std::io::Result<()>) {
    if let Err(err) = sent {
        tracing::warn!(%err, "the service manager was not told");
    }
}

/// A message: assignments, one in a line.
#[derive(Debug, Default)]
struct Message(String);

impl Message {
    fn line(mut self, text: impl Display) -> Self {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{text}");
        self
    }

    fn name(self, name: &str) -> Self {
        self.line(format_args!("FDNAME={name}"))
    }

    /// For people. What others have said may be in it, so it is kept to its line.
    fn status(self, text: impl Display) -> Self {
        let text = text.to_string().replace(|c: char| c.is_control(), " ");
        let text = shortened(&text, STATUS);
        self.line(format_args!("STATUS={text}"))
    }

    /// The manager is to wait for so long from now, if it would not do so anyway.
    fn extend(self, time: Duration) -> Self {
        self.line(format_args!("EXTEND_TIMEOUT_USEC={}", time.as_micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_stays_in_its_line() {
        let message = Message::default()
            .status("no\nMAINPID=1\r\n")
            .line("READY=1");
        assert_eq!(message.0, "STATUS=no MAINPID=1  \nREADY=1\n");
        let long = Message::default().status("ö".repeat(STATUS));
        assert_eq!(long.0.len(), "STATUS=\n".len() + STATUS);
    }
}
