//! The one task of a generation that decides: signals, upgrades, drain and end meet here.
//!
//! Invariants:
//! 1. At most one attempt to upgrade is under way. Signals that ask for one meanwhile wait; when it
//!    has failed, they get one together.
//! 2. Until the commit an attempt can be dropped, which kills its successor, and nothing else has
//!    changed. After it, its outcome is awaited.
//! 3. Whoever asked gets an answer, however it ends.
//! 4. `handed_over` is set exactly while a successor is known to serve, or has been let go; it has
//!    if the runtime ends in an attempt although nobody has asked for an end.

mod attempt;
mod stop;
mod succession;

use std::sync::{Arc, atomic::Ordering};

use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    time::Instant,
};

use self::attempt::Attempt;
use crate::{
    Guard, Phase,
    error::Error,
    fault,
    generation::shared::Shared,
    signals::Action,
    upgrade::{Successor, link::Link},
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
            result = attempt::attempted(&mut conductor.attempt) => {
                conductor.attempted(result);
                if conductor.link.is_some() {
                    fault::comes_to("draining").await;
                }
            }
            ended = succession::ended(&mut conductor.link) => conductor.successor_ended(&ended),
            () = succession::probation_over(&conductor.probation, graceful) => conductor.probation = None,
            _ = graceful.drained(), if conductor.attempt.is_none() => break,
        }
    }
    let handed_over = conductor.link.is_some();
    if handed_over {
        fault::comes_to("bye-due").await;
    }
    conductor.end();
    if handed_over {
        fault::comes_to("bye-sent").await;
    }
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
        let shared = &self.shared;
        // A `main` that returns with the report may take the runtime away before `end`.
        if let Some(link) = &self.link
            && shared.graceful.report().is_some()
            && !shared.is_killed()
        {
            link.say_farewell();
        }
        // One that panics, or just returns, takes it away in the middle of an attempt: then the
        // successor is the heir, and has the socket files.
        if let Some(attempt) = &self.attempt
            && shared.graceful.phase() == Phase::Running
            && attempt.course.started.load(Ordering::Acquire)
        {
            attempt.course.spared.store(true, Ordering::Release);
            shared.handed_over.store(true, Ordering::Release);
        }
    }
}
