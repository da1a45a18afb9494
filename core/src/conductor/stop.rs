//! Being told to stop, by a signal or by the token.

use std::sync::{Arc, atomic::Ordering};

use super::Conductor;
use crate::{
    Phase, Reason,
    error::{Error, Kind},
    signals::Action,
    systemd::pulse,
    upgrade::frame::Message,
};

impl Conductor {
    pub(super) fn act(&mut self, number: i32, action: Action) {
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
                        link.settle();
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

    /// Readiness has been withdrawn, by whomever.
    pub(super) fn drain_begun(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let reason = self.shared.graceful.reason().unwrap_or_default();
        if reason.is_upgrade() {
            return;
        }
        if self.shared.check {
            return;
        }
        let shared = &self.shared;
        shared.tell_of_stop();
        let (manager, graceful) = (Arc::clone(&shared.manager), shared.graceful.clone());
        tokio::spawn(pulse::report_drain(manager, graceful));
        // We were told to stop, so a predecessor that still drains must not start to serve again.
        self.shared.tell_predecessor(&Message::Bye);
        if self.shared.is_ready() {
            self.shared.become_alone();
        }
        if let Some(attempt) = &mut self.attempt
            && attempt.course.committed.load(Ordering::Acquire)
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
            self.shared.journal.failed(&err);
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
    pub(super) fn stop_accepting(&mut self) {
        self.closed = true;
        let reason = self.shared.graceful.reason().unwrap_or_default();
        if !reason.is_upgrade() {
            self.shared.registry().close();
        }
    }
}
