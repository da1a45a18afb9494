//! An attempt to upgrade, from its beginning to its outcome.

use std::{
    os::fd::OwnedFd,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::oneshot;
use tracing::{Instrument, Span, field};

use super::{Conductor, decide};
use crate::{
    Reason,
    control::UpgradeRequest,
    error::{Error, Kind},
    generation::shared::{Shared, lock},
    state,
    systemd::pulse,
    upgrade::{
        Successor,
        aside::aside,
        attempt::{self, Course, Offer},
        channel::{self, Channel},
        check,
        frame::Older,
        link::Link,
    },
};

type Running = Pin<Box<dyn Future<Output = Result<Link, Error>> + Send>>;

pub(super) struct Attempt {
    pub(super) run: Running,
    /// In which all that belongs to it is traced.
    pub(super) span: Span,
    pub(super) course: Arc<Course>,
    pub(super) reply: Option<oneshot::Sender<Result<Successor, Error>>>,
    pub(super) done: Vec<oneshot::Sender<()>>,
    /// We were told to stop when it was too late to drop the attempt: the service is to end.
    pub(super) stop_successor: bool,
    /// By which the generations to come reach this one.
    leash: Option<Channel>,
}

/// How an attempt is made.
struct Plan {
    check: bool,
    older: Vec<(Older, OwnedFd)>,
    course: Arc<Course>,
}

/// Ends with the attempt, if there is one.
pub(super) async fn attempted(attempt: &mut Option<Attempt>) -> Result<Link, Error> {
    match attempt {
        Some(attempt) => attempt.run.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Conductor {
    pub(super) fn may_upgrade(&self, request: &UpgradeRequest) -> Result<(), Error> {
        let refuse = |kind, message: &str| Err(Error::new(kind, message));
        if let Err(why) = decide::may_upgrade(self.view()) {
            let (kind, message) = why.error();
            refuse(kind, message)
        } else if let Some(wanted) = request.if_generation
            && wanted != self.shared.number
        {
            let message = format!(
                "generation {} serves (pid {}), not generation {wanted}: it has been upgraded \
                 meanwhile; look at its status before you ask again",
                self.shared.number,
                std::process::id()
            );
            Err(Error::new(Kind::Stale, message))
        } else if std::process::id() == 1 && self.shared.seat.is_none() {
            // The kernel kills a pid namespace with its first process.
            refuse(
                Kind::Spawn,
                // An init that only starts one program ends with it, and so does not help.
                "this is process 1, whose end is the end of its container, the successor included; \
                 let a supervisor start it (handover run)",
            )
        } else {
            Ok(())
        }
    }

    pub(super) fn start(
        &mut self,
        request: &UpgradeRequest,
        reply: Option<oneshot::Sender<Result<Successor, Error>>>,
        done: Vec<oneshot::Sender<()>>,
    ) {
        let (generation, pid) = (self.shared.number, std::process::id());
        // Not within the span of who asks: it is an event of the service.
        let span = tracing::info_span!(
            target: "handover::upgrade",
            parent: None,
            "upgrade",
            generation,
            pid,
            deadline = self.shared.ready_timeout.as_secs_f64(),
            successor = field::Empty,
            outcome = field::Empty,
        );
        let _within = span.clone().entered();
        tracing::info!(generation, pid, "upgrading");
        self.shared.manager.reloading();
        self.shared.journal.begun(self.shared.number);
        let course = Arc::new(Course::default());
        let (leash, older) = self.leash();
        let plan = Plan {
            // A generation of a test has no program.
            check: (request.check || self.shared.check_first) && self.shared.seat.is_none(),
            older,
            course: Arc::clone(&course),
        };
        let run = attempt_of(Arc::clone(&self.shared), plan);
        let run = Box::pin(run.instrument(span.clone()));
        self.attempt = Some(Attempt {
            run,
            span,
            course,
            reply,
            done,
            stop_successor: false,
            leash,
        });
    }

    /// A channel by which the generations to come reach this one, and their ends of it and of those
    /// to the generations before.
    fn leash(&self) -> (Option<Channel>, Vec<(Older, OwnedFd)>) {
        let made = || {
            let mut older = self.shared.older.for_successor()?;
            let (ours, theirs) = channel::pair()?;
            let us = Older {
                pid: std::process::id(),
                generation: self.shared.number,
            };
            older.push((us, theirs));
            Ok::<_, std::io::Error>((Channel::new(ours)?, older))
        };
        match made() {
            Ok((leash, older)) => (Some(leash), older),
            Err(err) => {
                tracing::warn!(%err, "the next generation cannot reach this one once it serves");
                (None, Vec::new())
            }
        }
    }

    pub(super) fn attempted(&mut self, result: Result<Link, Error>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        // Its own spans end before it does.
        drop(attempt.run);
        let within = attempt.span.entered();
        let result = match result {
            Ok(link) => {
                self.leash = attempt.leash;
                within.record("outcome", "served");
                Ok(self.succeeded(link, attempt.stop_successor))
            }
            Err(err) => {
                within.record("outcome", "failed");
                tracing::error!(err = err.chain(), "upgrade failed, serving on");
                let stage = attempt.course.stage();
                if decide::has_committed(stage) {
                    // It may have served, and started a successor itself.
                    self.leash = attempt.leash;
                }
                self.perform(&decide::failed(stage), Reason::default());
                self.shared.manager.serves(Some(&err.chain()));
                self.shared.journal.failed(&err);
                Err(err)
            }
        };
        drop(within);
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
        let request = UpgradeRequest::default();
        match self.may_upgrade(&request) {
            Ok(()) => self.start(&request, None, waiting),
            Err(err) => {
                tracing::info!(%err, "upgrade ignored");
                for done in waiting {
                    let _ = done.send(());
                }
            }
        }
    }
}

/// One upgrade, from asking for the state until the successor serves, or until the program has been
/// told that it has failed.
async fn attempt_of(shared: Arc<Shared>, plan: Plan) -> Result<Link, Error> {
    let course = Arc::clone(&plan.course);
    // A check may take as long as a start.
    let longest = shared.ready_timeout * if plan.check { 2 } else { 1 };
    let pulse = pulse::report_start(Arc::clone(&shared.manager), longest);
    let attempt = async {
        if plan.check {
            let inquiry = shared.inquiry(Some(Arc::clone(&shared.journal)))?;
            let span = tracing::info_span!(target: "handover::upgrade", "check");
            check::run(inquiry).instrument(span).await?;
        }
        let span = tracing::info_span!(target: "handover::upgrade", "state");
        let offer = offer(&shared, plan).instrument(span).await?;
        attempt::run(offer).await
    };
    let result = tokio::select! {
        result = attempt => result,
        never = pulse => match never {},
    };
    if let Err(err) = &result {
        // It has ended, and so is no heir.
        course.started.store(false, Ordering::Release);
        // To its end: the next attempt must find the preparations of this one undone.
        let _ = shared.upgrade_failed(err).await;
    }
    result
}

async fn offer(shared: &Shared, plan: Plan) -> Result<Offer, Error> {
    let providers = lock(&shared.providers).clone();
    // The user's code may block, and may panic.
    let states = aside(move || state::collect(providers)).map_err(|err| {
        let message = "cannot start a thread that makes the state for a successor";
        Error::io(Kind::Spawn, message, err)
    })?;
    let states = states
        .done()
        .await
        .map_err(|err| {
            let message = "the state for a successor cannot be made";
            Error::io(Kind::State, message, err)
        })?
        .map_err(|(name, err)| {
            let message = format!("the state {name:?} for a successor cannot be made");
            Error::io(Kind::State, message, err)
        })?;
    let sockets = shared.sockets_for_successor().map_err(|err| {
        Error::io(
            Kind::Spawn,
            "cannot duplicate the sockets for a successor",
            err,
        )
    })?;
    Ok(Offer {
        program: shared.program.clone(),
        seat: shared.seat.clone(),
        generation: shared.number + 1,
        ready_timeout: shared.ready_timeout,
        sockets,
        states,
        route: shared.route.clone(),
        journal: Arc::clone(&shared.journal),
        manager: Arc::clone(&shared.manager),
        older: plan.older,
        course: plan.course,
    })
}
