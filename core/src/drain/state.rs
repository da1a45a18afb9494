//! What the lock of a drain guards.

use std::sync::Arc;

use tokio::time::Instant;

use super::stage::Stage;
#[cfg(not(loom))]
use crate::waits::Sayings;
use crate::{Phase, Reason, Report, Stayed, gate::Base, holder::Holding, report::Tally};

#[derive(Default)]
pub(super) struct State {
    pub(super) stages: Vec<Arc<Stage>>,
    pub(super) under_way: Option<UnderWay>,
    pub(super) report: Option<Report>,
    // Counts drains, so that the clock of one that was taken back does not move the next.
    pub(super) ordinal: u64,
}

pub(super) struct UnderWay {
    pub(super) reason: Reason,
    pub(super) began: Instant,
    pub(super) lame_duck_until: Instant,
    pub(super) deadline: Instant,
    #[cfg(not(loom))]
    pub(super) sayings: Sayings,
    // Somebody has let go of what a service that is taken back would need.
    pub(super) is_final: bool,
    pub(super) cut_at: Option<Instant>,
    pub(super) at_start: Tally,
    pub(super) moved: usize,
    pub(super) stayed: Stayed,
    pub(super) cut: Vec<Holding>,
}

/// What remains to be done once the state's lock has been released.
#[derive(Default)]
#[must_use]
pub(super) struct After {
    pub(super) wake: Vec<Arc<Stage>>,
    // Of the stage that is being drained.
    pub(super) base: Option<Base<Stage>>,
    pub(super) done: bool,
}

impl UnderWay {
    /// When it is to say what it waits for, if before the deadline.
    #[cfg(not(loom))]
    pub(super) fn next_saying(&self) -> Instant {
        self.sayings.due().unwrap_or(self.deadline)
    }

    /// Models have no log.
    #[cfg(loom)]
    pub(super) fn next_saying(&self) -> Instant {
        self.deadline
    }
}

impl State {
    pub(super) fn is_cut(&self) -> bool {
        self.under_way
            .as_ref()
            .is_some_and(|under_way| under_way.cut_at.is_some())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.under_way.as_ref()?.deadline)
    }

    /// Starts the first stage that is not drained, if there is one, and closes its gate.
    pub(super) fn start_next_stage(&mut self) -> After {
        let next = self.stages.iter().find(|s| s.phase() != Phase::Drained);
        let Some(stage) = next.cloned() else {
            return After::default();
        };
        let mut after = After::default();
        if stage.phase() < Phase::Draining {
            stage.signal.set(Phase::Draining);
            after.wake.push(stage.clone());
        }
        after.base = Some(stage.gate().close());
        after
    }
}

impl After {
    pub(super) fn waking(stage: Arc<Stage>) -> Self {
        Self {
            wake: vec![stage],
            ..Self::default()
        }
    }
}
