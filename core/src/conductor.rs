//! The one task of a generation that decides: signals, upgrades, drain and end meet here.
//!
//! Invariants:
//! 1. At most one attempt to upgrade is under way. Signals that ask for one meanwhile wait; when it
//!    has failed, they get one together.
//! 2. Until the commit an attempt can be dropped, which kills its successor, and nothing else has
//!    changed. After it, its outcome is awaited.
//! 3. Whoever asked gets an answer, however it ends.
//! 4. `handed_over` is set exactly while a successor is known to serve, or has been let go.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    time::Instant,
};

use crate::{
    Graceful, Guard, Phase, Reason,
    error::{Error, Kind},
    generation::shared::{Shared, lock},
    signals::Action,
    state, systemd,
    upgrade::{
        Successor,
        attempt::{self, Offer},
        frame::Message,
        link::{Ended, Link},
    },
};

/// What the conductor is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    /// A signal has come. `done` is told once it has been acted on.
    Signal {
        number: i32,
        action: Action,
        done: oneshot::Sender<()>,
    },
    /// The program asks for an upgrade.
    Upgrade {
        reply: oneshot::Sender<Result<Successor, Error>>,
    },
}

type Running = Pin<Box<dyn Future<Output = Result<Link, Error>> + Send>>;

/// Conducts until the drain is over.
pub(crate) async fn run(shared: Arc<Shared>, mut requests: UnboundedReceiver<Request>) {
    let mut conductor = Conductor {
        shared: Arc::clone(&shared),
        attempt: None,
        waiting: Vec::new(),
        link: None,
        probation: None,
        stops: 0,
        begun: false,
        closed: false,
    };
    let graceful = &shared.graceful;
    loop {
        tokio::select! {
            biased;
            Some(request) = requests.recv() => conductor.request(request),
            () = graceful.lame_duck(), if !conductor.begun => conductor.drain_begun(),
            () = graceful.draining(), if conductor.begun && !conductor.closed => {
                conductor.stop_accepting();
            }
            result = attempted(&mut conductor.attempt) => conductor.attempted(result),
            ended = ended(&mut conductor.link) => conductor.successor_ended(&ended),
            () = probation_over(&conductor.probation, graceful) => conductor.probation = None,
            _ = graceful.drained(), if conductor.attempt.is_none() => break,
        }
    }
    conductor.end();
}

struct Conductor {
    shared: Arc<Shared>,
    attempt: Option<Attempt>,
    /// Signals that came during the attempt.
    waiting: Vec<oneshot::Sender<()>>,
    /// The successor, while we drain.
    link: Option<Link>,
    probation: Option<(Guard, Instant)>,
    /// How often we were told to stop.
    stops: u32,
    begun: bool,
    closed: bool,
}

struct Attempt {
    run: Running,
    committed: Arc<AtomicBool>,
    reply: Option<oneshot::Sender<Result<Successor, Error>>>,
    done: Vec<oneshot::Sender<()>>,
    /// We were told to stop when it was too late to drop the attempt: the service is to end.
    stop_successor: bool,
}

async fn attempted(attempt: &mut Option<Attempt>) -> Result<Link, Error> {
    match attempt {
        Some(attempt) => attempt.run.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn ended(link: &mut Option<Link>) -> Ended {
    match link {
        Some(link) => link.ended().await,
        None => std::future::pending().await,
    }
}

async fn probation_over(probation: &Option<(Guard, Instant)>, graceful: &Graceful) {
    match probation {
        Some((_, until)) => tokio::select! {
            () = tokio::time::sleep_until(*until) => {}
            () = graceful.cutting() => {}
        },
        None => std::future::pending().await,
    }
}

impl Conductor {
    fn request(&mut self, request: Request) {
        match request {
            Request::Signal {
                action: Action::Upgrade,
                done,
                ..
            } => {
                if self.attempt.is_some() {
                    tracing::info!("an upgrade is under way, another is kept for when it fails");
                    self.waiting.push(done);
                } else if let Err(err) = self.may_upgrade() {
                    tracing::info!(%err, "upgrade ignored");
                    let _ = done.send(());
                } else {
                    self.start(None, vec![done]);
                }
            }
            Request::Signal {
                number,
                action,
                done,
            } => {
                self.act(number, action);
                let _ = done.send(());
            }
            Request::Upgrade { reply } => match self.may_upgrade() {
                Ok(()) => self.start(Some(reply), Vec::new()),
                Err(err) => drop(reply.send(Err(err))),
            },
        }
    }

    fn act(&mut self, number: i32, action: Action) {
        let graceful = &self.shared.graceful;
        let running = graceful.phase() == Phase::Running;
        let reason = Reason::Signal(number);
        match action {
            Action::Stop => {
                self.stops += 1;
                if running {
                    graceful.drain_for(reason);
                    // Now, so that nothing comes between: an attempt under way ends.
                    self.drain_begun();
                } else if self.stops > 1 {
                    tracing::warn!(signal = %reason, "told to stop a second time, cutting");
                    graceful.cut();
                } else {
                    tracing::info!(signal = %reason, "told to stop, draining already; once more cuts");
                    // We are to go, so the successor is on its own.
                    self.probation = None;
                    if let Some(link) = &mut self.link {
                        link.release();
                    }
                }
            }
            Action::Drain if running => {
                graceful.drain_for(reason);
                self.drain_begun();
            }
            Action::Drain => tracing::info!(signal = %reason, "draining already"),
            Action::Cut if running => tracing::info!(signal = %reason, "ignored: not draining"),
            Action::Cut => {
                tracing::warn!(signal = %reason, "cutting");
                graceful.cut();
            }
            Action::Upgrade | Action::Ignore => {}
        }
    }

    fn may_upgrade(&self) -> Result<(), Error> {
        let refuse = |kind, message: &str| Err(Error::new(kind, message));
        if self.attempt.is_some() {
            refuse(Kind::InProgress, "an upgrade of this process is under way")
        } else if self.shared.graceful.phase() != Phase::Running {
            refuse(
                Kind::Draining,
                "this process drains, there is nothing to hand over",
            )
        } else if !self.shared.is_ready() {
            refuse(Kind::NotReady, "this process is not ready itself")
        } else {
            Ok(())
        }
    }

    fn start(
        &mut self,
        reply: Option<oneshot::Sender<Result<Successor, Error>>>,
        done: Vec<oneshot::Sender<()>>,
    ) {
        tracing::info!(
            generation = self.shared.number,
            pid = std::process::id(),
            "upgrading"
        );
        systemd::reloading();
        let committed = Arc::new(AtomicBool::new(false));
        let run = Box::pin(attempt_of(Arc::clone(&self.shared), Arc::clone(&committed)));
        self.attempt = Some(Attempt {
            run,
            committed,
            reply,
            done,
            stop_successor: false,
        });
    }

    fn attempted(&mut self, result: Result<Link, Error>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let result = match result {
            Ok(link) => Ok(self.succeeded(link, attempt.stop_successor)),
            Err(err) => {
                tracing::error!(err = err.chain(), "upgrade failed, serving on");
                if attempt.committed.load(Ordering::Acquire) {
                    self.shared.reclaim_pid_file();
                }
                systemd::serves(self.shared.number);
                Err(err)
            }
        };
        if let Some(reply) = attempt.reply {
            let _ = reply.send(result);
        }
        for done in attempt.done {
            let _ = done.send(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        match self.may_upgrade() {
            Ok(()) => self.start(None, waiting),
            Err(err) => {
                tracing::info!(%err, "upgrade ignored");
                for done in waiting {
                    let _ = done.send(());
                }
            }
        }
    }

    fn succeeded(&mut self, mut link: Link, stop: bool) -> Successor {
        let successor = link.successor;
        let shared = &self.shared;
        shared.handed_over.store(true, Ordering::Release);
        shared.gate.shut();
        tracing::info!(
            successor = successor.pid(),
            generation = successor.generation(),
            "successor serves"
        );
        // What becomes of us is the successor's concern now.
        shared.tell_predecessor(&Message::Bye);
        if stop {
            link.terminate();
            link.release();
        }
        if shared.probation > std::time::Duration::ZERO && !stop {
            let until = Instant::now() + shared.probation;
            // Not a holder: should the deadline come first, nothing was cut that anybody waits for.
            let guard = shared.graceful.guard();
            self.probation = guard.map(|guard| (guard, until));
        }
        self.link = Some(link);
        self.tell_manager(successor);
        let shared = &self.shared;
        shared.graceful.drain_for(Reason::Upgrade {
            successor: successor.pid(),
        });
        successor
    }

    /// Tells the service manager who is the main process, and is there until it knows.
    fn tell_manager(&self, successor: Successor) {
        if !systemd::is_listening() {
            return;
        }
        let guard = self.shared.graceful.guard();
        tokio::task::spawn_blocking(move || {
            systemd::handed_over(successor.pid(), successor.generation());
            drop(guard);
        });
    }

    /// Readiness has been withdrawn, by whomever.
    fn drain_begun(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let reason = self.shared.graceful.reason().unwrap_or_default();
        if reason.is_upgrade() {
            return;
        }
        systemd::stopping();
        // We were told to stop, so a predecessor that still drains must not start to serve again.
        self.shared.tell_predecessor(&Message::Bye);
        if self.shared.is_ready() {
            self.shared.become_alone();
        }
        if let Some(attempt) = &mut self.attempt
            && attempt.committed.load(Ordering::Acquire)
        {
            attempt.stop_successor = true;
            return;
        }
        if let Some(attempt) = self.attempt.take() {
            // Kills the successor; the runtime reaps it.
            drop(attempt.run);
            let message = "the upgrade was ended: this process was told to stop";
            tracing::warn!("{message}");
            let err = Error::new(Kind::Draining, message);
            drop(self.shared.upgrade_failed(&err));
            if let Some(reply) = attempt.reply {
                let _ = reply.send(Err(err));
            }
            attempt
                .done
                .into_iter()
                .chain(self.waiting.drain(..))
                .for_each(|done| {
                    let _ = done.send(());
                });
        }
    }

    /// The lame duck is over.
    fn stop_accepting(&mut self) {
        self.closed = true;
        let reason = self.shared.graceful.reason().unwrap_or_default();
        if !reason.is_upgrade() {
            self.shared.registry().close();
        }
    }

    fn successor_ended(&mut self, ended: &Ended) {
        let Some(link) = self.link.take() else { return };
        let (successor, shared) = (link.successor.pid(), &self.shared);
        let status = match ended {
            Ended::Released => {
                tracing::info!(successor, "successor has ended, as it should");
                return link.take_back();
            }
            Ended::Died(Ok(status)) => status.to_string(),
            Ended::Died(Err(err)) => err.to_string(),
        };
        shared.handed_over.store(false, Ordering::Release);
        if shared.graceful.resume() {
            tracing::error!(successor, status, "the successor died, serving again");
            let message = format!("the successor (pid {successor}) died after it served, {status}");
            drop(shared.upgrade_failed(&Error::new(Kind::Failed, message)));
            shared.reclaim_pid_file();
            systemd::alone(shared.number);
            shared.gate.open();
            (self.stops, self.begun, self.closed) = (0, false, false);
        } else {
            tracing::error!(
                successor,
                status,
                "the successor died, too late to serve again"
            );
            // Not before the drain is taken back: without the holder it might be over.
            self.probation = None;
        }
        // Last, so that a connection that comes back is served on as if nothing had been.
        link.take_back();
    }

    fn end(mut self) {
        self.shared.end();
        if let Some(link) = self.link.take() {
            link.say_farewell();
            link.reap_in_the_end();
        }
        for done in self.waiting.drain(..) {
            let _ = done.send(());
        }
        self.shared.finished.send_replace(true);
    }
}

impl Drop for Conductor {
    fn drop(&mut self) {
        // A `main` that returns with the report may take the runtime away before `end`.
        if let Some(link) = &self.link
            && self.shared.graceful.report().is_some()
        {
            link.say_farewell();
        }
    }
}

/// One upgrade, from asking for the state until the successor serves, or until the program has been
/// told that it has failed.
async fn attempt_of(shared: Arc<Shared>, committed: Arc<AtomicBool>) -> Result<Link, Error> {
    let result = offer(&shared, committed).await;
    let result = match result {
        Ok(offer) => attempt::run(offer).await,
        Err(err) => Err(err),
    };
    if let Err(err) = &result {
        // To its end: the next attempt must find the preparations of this one undone.
        let _ = shared.upgrade_failed(err).await;
    }
    result
}

async fn offer(shared: &Shared, committed: Arc<AtomicBool>) -> Result<Offer, Error> {
    let providers = lock(&shared.providers).clone();
    // The user's code may block, and may panic.
    let states = tokio::task::spawn_blocking(move || state::collect(providers));
    let states = states
        .await
        .map_err(|err| {
            let message = "the state for a successor cannot be made";
            Error::io(Kind::State, message, std::io::Error::other(err))
        })?
        .map_err(|(name, err)| {
            let message = format!("the state {name:?} for a successor cannot be made");
            Error::io(Kind::State, message, err)
        })?;
    let sockets = shared.registry().for_successor().map_err(|err| {
        Error::io(
            Kind::Spawn,
            "cannot duplicate the sockets for a successor",
            err,
        )
    })?;
    Ok(Offer {
        program: shared.program.clone(),
        generation: shared.number + 1,
        ready_timeout: shared.ready_timeout,
        sockets,
        states,
        route: shared.route.clone(),
        committed,
    })
}
