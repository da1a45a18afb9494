//! The stage behind the report: what the report itself goes through, such as a buffered log.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Drain, Stage,
    state::{After, State},
};
#[cfg(not(loom))]
use crate::waits::Waits;
use crate::{Phase, clock, sync::MutexGuard};

impl Drain {
    /// The stage behind the report; made where there is none.
    pub(crate) fn last_stage(self: &Arc<Self>) -> Arc<Stage> {
        let mut after = After::default();
        let stage = {
            let mut state = self.state();
            if let Some(stage) = &state.behind {
                return stage.clone();
            }
            // Where the report is being logged at this moment, what follows finds it.
            let phase = match self.is_over() {
                true => Phase::Drained,
                false => Phase::Running,
            };
            let stage = Stage::new("last", phase, Arc::downgrade(self));
            state.behind = Some(stage.clone());
            if self.is_over() {
                after.base = Some(stage.gate().close());
            }
            stage
        };
        self.finish(after);
        // The work has less time from now on.
        clock::poke(self);
        stage
    }

    /// What follows when the report has been logged: the last stage, or the end.
    pub(super) fn go_behind_report(&self) {
        let after = {
            let state = self.state();
            match &state.behind {
                Some(stage) => {
                    let mut after = After::default();
                    if stage.phase() < Phase::Draining {
                        stage.signal.set(Phase::Draining);
                        after.wake.push(stage.clone());
                    }
                    after.base = Some(stage.gate().close());
                    after
                }
                None => self.over(),
            }
        };
        self.finish(after);
        clock::poke(self);
    }

    pub(super) fn cut_behind(&self, mut state: MutexGuard<'_, State>) {
        let Some(under_way) = &mut state.under_way else {
            return;
        };
        if under_way.cut_behind_at.is_some() {
            return;
        }
        under_way.cut_behind_at = Some(Instant::now());
        let behind = state.behind.as_ref();
        let Some(stage) = behind
            .filter(|stage| stage.phase() < Phase::Cutting)
            .cloned()
        else {
            return;
        };
        stage.signal.set(Phase::Cutting);
        drop(state);
        // It may well be what cannot be written any more.
        #[cfg(not(loom))]
        tracing::warn!(
            target: "handover::drain",
            "the stage behind the report is cut; it waits for {}",
            Waits::of(&stage)
        );
        self.finish(After::waking(stage));
        clock::poke(self);
    }

    /// Its time is over: cuts what is behind the report, or gives up on it.
    pub(super) fn tick_behind(&self, state: MutexGuard<'_, State>) {
        let is_cut = state.under_way.as_ref();
        if is_cut.is_none_or(|under_way| under_way.cut_behind_at.is_none()) {
            return self.cut_behind(state);
        }
        let mut after = self.over();
        if let Some(stage) = &state.behind
            && stage.phase() != Phase::Drained
        {
            stage.signal.set(Phase::Drained);
            after.wake.push(stage.clone());
        }
        drop(state);
        self.finish(after);
    }
}
