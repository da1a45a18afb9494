//! What is asked for over the control socket, and what those who have asked are told.

use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use tokio::time::Instant;

use super::Conductor;
use crate::{
    Phase, Reason,
    control::{Event, Refusal, Request, UpgradeRequest, caller::Caller},
    status::Held,
    upgrade::frame::Message,
};

/// How often it is looked whether what holds the drain has changed.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is told although the numbers have not: the ages have.
const TELL: Duration = Duration::from_secs(1);
/// Looking costs something for each connection: at most one part in so many of the time.
const SHARE: u32 = 20;

/// When the progress of the drain is told.
pub(super) struct Reporting {
    pub(super) due: Instant,
    told: Option<(Instant, Held)>,
}

impl Reporting {
    pub(super) fn new() -> Self {
        Self {
            due: Instant::now(),
            told: None,
        }
    }
}

impl Conductor {
    pub(super) fn control(&mut self, request: Request, caller: &Arc<Caller>) {
        let superseded = self.shared.has_handed_over();
        let answer = match request {
            _ if superseded => Some(Event::refused(
                Refusal::Superseded,
                "another generation serves by now; connect again",
            )),
            Request::Upgrade(request) => self.upgrade_for(request, caller),
            Request::Drain => {
                self.follow(caller, false);
                if self.shared.graceful.drain_for(Reason::Control) {
                    // Now, so that nothing comes between: an attempt under way ends.
                    self.drain_begun();
                }
                None
            }
            Request::Cut => self.cut_for(caller),
            Request::Reexec => Some(Event::refused(
                Refusal::UnknownCommand,
                "this is a service and no supervisor; ask for an upgrade",
            )),
            // Answered where it arrives.
            Request::Status => None,
        };
        if let Some(answer) = answer {
            tracing::info!(?answer, "answered over the control socket");
            caller.tell(&answer);
        }
    }

    fn upgrade_for(&mut self, request: UpgradeRequest, caller: &Arc<Caller>) -> Option<Event> {
        match self.may_upgrade(&request) {
            Ok(()) => {
                self.shared.journal.followers.add(Arc::clone(caller), true);
                self.start(&request, None, Vec::new());
                None
            }
            Err(err) => Some(Event::refused(err.refusal(), err.chain())),
        }
    }

    fn cut_for(&mut self, caller: &Arc<Caller>) -> Option<Event> {
        if self.shared.graceful.phase() == Phase::Running {
            let older = self.shared.older.keep(0);
            if !older.is_empty() {
                let pids = older.iter().map(|older| older.pid).collect();
                tracing::warn!(?pids, "cutting older generations, as was asked for");
                return Some(Event::Cut { pids });
            }
            let message = "nothing drains, so there is nothing to cut";
            return Some(Event::refused(Refusal::NothingDrains, message));
        }
        self.follow(caller, false);
        tracing::warn!("cutting, as was asked for over the control socket");
        self.shared.graceful.cut();
        None
    }

    fn follow(&self, caller: &Arc<Caller>, upgrade: bool) {
        let (pid, generation) = (std::process::id(), self.shared.number);
        caller.tell(&Event::Begun { pid, generation });
        let followers = &self.shared.journal.followers;
        followers.add(Arc::clone(caller), upgrade);
    }

    /// Returns true if the progress of the drain under way interests somebody.
    pub(super) fn is_followed(&self) -> bool {
        self.begun && (self.leash.is_some() || !self.shared.journal.followers.is_empty())
    }

    /// Tells how the drain goes on.
    pub(super) fn report(&mut self) {
        let began = Clock::now();
        let graceful = &self.shared.graceful;
        let held = Held::of(graceful);
        let now = Instant::now();
        let news = self.reporting.told.as_ref().is_none_or(|(at, before)| {
            !before.is_same(&held) || now.saturating_duration_since(*at) >= TELL
        });
        if news {
            let remaining = graceful.remaining();
            let event = Event::Draining {
                held: held.clone(),
                remaining,
            };
            self.shared.journal.followers.tell_if_idle(&event);
            if let Some(leash) = &self.leash {
                // Best effort: the next one comes soon.
                let _ = leash.try_send(&Message::Holds {
                    held: held.clone(),
                    remaining,
                    release: self.shared.release.clone(),
                    age: Some(self.shared.journal.age()),
                });
            }
            self.reporting.told = Some((now, held));
        }
        let alone = self.shared.journal.followers.is_empty();
        let look = if alone { TELL } else { LOOK };
        self.reporting.due = now + look.max(began.elapsed() * SHARE);
    }

    /// Tells the outcome, at the end of the drain. It does not wait.
    pub(super) fn say_last_words(&self) {
        if let Some(report) = self.shared.graceful.report() {
            let outcome = Event::drained(&report);
            self.shared.journal.followers.end(&outcome);
        }
    }
}

/// The answer to who asks when it is too late.
pub(super) fn too_late(upgraded: bool) -> Event {
    if upgraded {
        let message = "this process has handed over; connect again";
        Event::refused(Refusal::Superseded, message)
    } else {
        Event::refused(Refusal::Draining, "this process has drained")
    }
}
