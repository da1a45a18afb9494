//! The spans of a drain: one for all of it, and in that one for each phase, one after another.
//!
//! # Invariants
//!
//! 1. No span is entered but for the time of one event, and none is opened or closed under the
//!    drain's own lock: a subscriber may ask the drain.
//! 2. Phases are numbered under the drain's lock, and opened without it: one that comes too late,
//!    behind a later one or the end, is closed at once.
//! 3. All are closed when the report has been logged: what is behind it may be what exports them.

use std::{sync::Arc, time::Duration};

use tracing::{Span, field};

use super::Stage;
use crate::{
    Reason, Report,
    sync::{Mutex, lock},
};

/// The spans of one drain.
pub(super) struct Spans(Mutex<Open>);

struct Open {
    drain: Span,
    phase: Span,
    /// Of the phase; the last there can be once they are closed.
    number: u32,
}

/// A phase that is entered.
pub(super) struct Phase {
    pub(super) number: u32,
    pub(super) phase: crate::Phase,
    /// Which stage, where it is the phase of one.
    pub(super) stage: Option<Arc<Stage>>,
}

impl Spans {
    pub(super) fn new(reason: Reason, generation: Option<&u64>, deadline: Duration) -> Self {
        // Not within the span of who asks: that would stay open for as long as the drain.
        let drain = tracing::info_span!(
            target: "handover::drain",
            parent: None,
            "drain",
            %reason,
            generation,
            pid = std::process::id(),
            deadline = deadline.as_secs_f64(),
            outcome = field::Empty,
        );
        drain.follows_from(Span::current());
        Self(Mutex::new(Open {
            drain,
            phase: Span::none(),
            number: 0,
        }))
    }

    /// Makes events within the drain's span.
    pub(super) fn within<T>(&self, events: impl FnOnce() -> T) -> T {
        let drain = lock(&self.0).drain.clone();
        drain.in_scope(events)
    }

    /// Ends the phase before, and begins this one.
    pub(super) fn enter(&self, entered: &Phase) {
        let drain = lock(&self.0).drain.clone();
        let stage = entered.stage.as_ref().map(|stage| stage.name.as_str());
        let mut span = match entered.phase {
            crate::Phase::LameDuck => {
                tracing::info_span!(target: "handover::drain", parent: &drain, "lame_duck")
            }
            crate::Phase::Draining => {
                tracing::info_span!(target: "handover::drain", parent: &drain, "draining", stage)
            }
            crate::Phase::Cutting => {
                tracing::info_span!(target: "handover::drain", parent: &drain, "cutting")
            }
            crate::Phase::Running | crate::Phase::Drained => return,
        };
        {
            let mut open = lock(&self.0);
            if open.number < entered.number {
                open.number = entered.number;
                std::mem::swap(&mut open.phase, &mut span);
            }
        }
        drop(span);
    }

    /// Logs the report, and ends all of them.
    pub(super) fn report(&self, report: &Report) {
        drop(self.end_phases());
        self.within(|| tracing::info!(target: "handover::drain", "{report}"));
        self.close(match report.is_complete() {
            true => "complete",
            false => "cut",
        });
    }

    /// Ends all of them.
    pub(super) fn close(&self, outcome: &str) {
        drop(self.end_phases());
        let drain = std::mem::replace(&mut lock(&self.0).drain, Span::none());
        drain.record("outcome", outcome);
    }

    fn end_phases(&self) -> Span {
        let mut open = lock(&self.0);
        open.number = u32::MAX;
        std::mem::replace(&mut open.phase, Span::none())
    }
}
