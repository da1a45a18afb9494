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

mod acts;
mod attempt;
mod control;
mod decide;
#[cfg(test)]
mod model;
mod stop;
mod succession;

use std::sync::{Arc, atomic::Ordering};

use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    time::sleep_until,
};

use self::{attempt::Attempt, succession::Probation};
use crate::{
    control::{self as control_socket, UpgradeRequest, caller::Caller},
    error::Error,
    fault,
    generation::shared::Shared,
    signals::Action,
    upgrade::{Successor, channel::Channel, link::Link},
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
        request: UpgradeRequest,
        reply: oneshot::Sender<Result<Successor, Error>>,
    },
    /// Somebody asks over the control socket.
    Control {
        request: control_socket::Request,
        caller: Arc<Caller>,
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
        leash: None,
        newer: None,
        reporting: control::Reporting::new(),
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
            () = succession::probation_due(&conductor.probation, graceful) => conductor.probation_due(),
            said = succession::leashed(&conductor.leash) => conductor.leashed(&said),
            _ = graceful.drained(), if conductor.attempt.is_none() => break,
            () = sleep_until(conductor.reporting.due), if conductor.is_followed() => {
                conductor.report();
            }
        }
    }
    requests.close();
    while let Ok(request) = requests.try_recv() {
        if let Request::Control { caller, .. } = request {
            caller.tell(&control::too_late(shared.has_handed_over()));
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
    probation: Option<Probation>,
    /// How often we were told to stop.
    stops: u32,
    begun: bool,
    closed: bool,
    /// By which later generations reach this one, once it drains for one.
    leash: Option<Channel>,
    /// Who serves, if that is not the successor, which has died.
    newer: Option<Successor>,
    reporting: control::Reporting,
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
                    // Else a manager that sent the signal would wait for word of this one.
                    self.shared.manager.reloading();
                    self.waiting.push(done);
                } else if let Err(err) = self.may_upgrade(&UpgradeRequest::default()) {
                    tracing::info!(%err, "upgrade ignored");
                    let _ = done.send(());
                } else {
                    self.start(&UpgradeRequest::default(), None, vec![done]);
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
            Request::Upgrade { request, reply } => match self.may_upgrade(&request) {
                Ok(()) => self.start(&request, Some(reply), Vec::new()),
                Err(err) => drop(reply.send(Err(err))),
            },
            Request::Control { request, caller } => self.control(request, &caller),
        }
    }

    fn end(mut self) {
        self.shared.end();
        if let Some(link) = self.link.take() {
            link.say_farewell();
            link.reap_in_the_end();
        }
        self.say_last_words();
        for done in self.waiting.drain(..) {
            let _ = done.send(());
        }
        self.shared.finished.send_replace(true);
    }
}

impl Drop for Conductor {
    fn drop(&mut self) {
        let shared = &self.shared;
        // A `main` that panics, or just returns, may take the runtime away in the middle of an
        // attempt: then the successor is the heir, and has the socket files.
        if let Some(attempt) = &self.attempt
            && decide::spares_successor(self.view())
        {
            attempt.course.spared.store(true, Ordering::Release);
            shared.handed_over.store(true, Ordering::Release);
        }
        // One that returns with the report may take it away before `end`.
        if shared.graceful.report().is_none() || shared.is_killed() {
            return;
        }
        if let Some(link) = &self.link {
            link.say_farewell();
        }
        // Who hears that we have drained finds nothing of us.
        shared.end();
        self.say_last_words();
    }
}
