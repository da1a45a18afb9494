//! What the lock of a drain guards.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    spans::{self, Spans},
    stage::Stage,
};
#[cfg(not(loom))]
use crate::waits::Sayings;
use crate::{Phase, Reason, Report, Stayed, gate::Base, holder::Holding, report::Tally};

#[derive(Default)]
pub(super) struct State {
    pub(super) stages: Vec<Arc<Stage>>,
    /// The stage behind the report.
    pub(super) behind: Option<Arc<Stage>>,
    pub(super) under_way: Option<UnderWay>,
    pub(super) report: Option<Report>,
    // Counts drains, so that the clock of one that was taken back does not move the next.
    pub(super) ordinal: u64,
}

pub(super) struct UnderWay {
    pub(super) reason: Reason,
    pub(super) began: Instant,
    pub(super) lame_duck_until: Instant,
    /// The deadline of all of it.
    pub(super) end: Instant,
    /// What of that is kept for the stage behind the report.
    pub(super) reserve: Duration,
    pub(super) spans: Arc<Spans>,
    /// How many phases have been entered.
    pub(super) phases: u32,
    #[cfg(not(loom))]
    pub(super) sayings: Sayings,
    // Somebody has let go of what a service that is taken back would need.
    pub(super) is_final: bool,
    pub(super) cut_at: Option<Instant>,
    pub(super) at_start: Tally,
    pub(super) moved: usize,
    pub(super) stayed: Stayed,
    pub(super) cut: Vec<Holding>,
    /// When the stage behind the report was cut.
    pub(super) cut_behind_at: Option<Instant>,
}

/// A phase of the drain under way that has been entered: to be traced.
pub(super) struct Entered {
    pub(super) spans: Arc<Spans>,
    pub(super) phase: spans::Phase,
}

/// What remains to be done once the state's lock has been released.
#[derive(Default)]
#[must_use]
pub(super) struct After {
    pub(super) wake: Vec<Arc<Stage>>,
    // Of the stage that is being drained.
    pub(super) base: Option<Base<Stage>>,
    pub(super) done: bool,
    pub(super) entered: Option<Entered>,
    pub(super) taken_back: Option<UnderWay>,
    /// Of the stages that are over, to be logged before the one behind it is drained.
    pub(super) report: Option<(Report, Arc<Spans>)>,
}

impl UnderWay {
    /// When it is to say what it waits for.
    #[cfg(not(loom))]
    pub(super) fn next_saying(&self) -> Option<Instant> {
        self.sayings.due()
    }

    /// Models have no log.
    #[cfg(loom)]
    pub(super) fn next_saying(&self) -> Option<Instant> {
        None
    }
}

impl State {
    pub(super) fn is_cut(&self) -> bool {
        self.under_way
            .as_ref()
            .is_some_and(|under_way| under_way.cut_at.is_some())
    }

    /// When what is being drained is cut: the work, and then what is behind the report.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let under_way = self.under_way.as_ref()?;
        Some(match (&self.behind, &self.report, under_way.cut_at) {
            (Some(_), None, _) => under_way.end - under_way.reserve,
            // Never later than the end: the cut was `reserve` before that, at the latest.
            (Some(_), Some(_), Some(cut_at)) => cut_at + under_way.reserve,
            _ => under_way.end,
        })
    }

    pub(super) fn is_behind(&self, stage: &Arc<Stage>) -> bool {
        let behind = self.behind.as_ref();
        behind.is_some_and(|behind| Arc::ptr_eq(behind, stage))
    }

    pub(super) fn all_stages(&self) -> Vec<Arc<Stage>> {
        self.stages.iter().chain(&self.behind).cloned().collect()
    }

    /// Counts the phase that the drain under way enters.
    pub(super) fn enters(&mut self, phase: Phase, stage: Option<Arc<Stage>>) -> Option<Entered> {
        let under_way = self.under_way.as_mut()?;
        under_way.phases += 1;
        Some(Entered {
            spans: under_way.spans.clone(),
            phase: spans::Phase {
                number: under_way.phases,
                phase,
                stage,
            },
        })
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
            after.entered = self.enters(Phase::Draining, Some(stage.clone()));
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

    pub(super) fn entering(mut self, entered: Option<Entered>) -> Self {
        self.entered = entered;
        self
    }
}
