//! Being told to stop, by a signal or by the token.

use super::{Conductor, decide};
use crate::{Phase, Reason, signals::Action};

impl Conductor {
    pub(super) fn act(&mut self, number: i32, action: Action) {
        let reason = Reason::Signal(number);
        if action == Action::Stop {
            self.stops += 1;
        }
        let view = self.view();
        let running = view.phase == Phase::Running;
        match action {
            Action::Stop if !running && view.stops > 1 => {
                tracing::warn!(signal = %reason, "told to stop a second time, cutting");
            }
            Action::Stop if !running => {
                tracing::info!(signal = %reason, "told to stop, draining already; once more cuts");
            }
            Action::Drain if !running => tracing::info!(signal = %reason, "draining already"),
            Action::Cut if running => tracing::info!(signal = %reason, "ignored: not draining"),
            Action::Cut => tracing::warn!(signal = %reason, "cutting"),
            Action::Stop | Action::Drain | Action::Upgrade | Action::Ignore => {}
        }
        self.perform(&decide::told(action, view), reason);
        if running && self.shared.graceful.phase() != Phase::Running {
            // Now, so that nothing comes between: an attempt under way ends.
            self.drain_begun();
        }
    }

    /// Readiness has been withdrawn, by whomever.
    pub(super) fn drain_begun(&mut self) {
        if self.shared.check {
            // It has nothing, and nobody to tell.
            self.begun = true;
            return;
        }
        let acts = decide::drain_begun(self.view());
        self.perform(&acts, Reason::default());
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
