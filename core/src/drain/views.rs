//! What a drain is asked, and says without being changed.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Drain, Stage};
use crate::{
    Phase, Reason, Report,
    holder::{Describe, Holding},
};

impl Drain {
    pub(crate) fn reason(&self) -> Option<Reason> {
        Some(self.state().under_way.as_ref()?.reason)
    }

    /// The number and the deadline of the drain under way.
    #[cfg(not(loom))]
    pub(crate) fn under_way(&self) -> Option<(u64, Instant)> {
        let state = self.state();
        Some((state.ordinal, state.deadline()?))
    }

    /// When the deadline of what is being drained is over, once a drain has begun.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.state().deadline()
    }

    pub(crate) fn report(&self) -> Option<Report> {
        self.state().report.clone()
    }

    /// When the phase was entered in which the drain is; `None` while there is none.
    #[cfg(all(unix, feature = "process"))]
    pub(crate) fn entered(&self) -> Option<Instant> {
        let state = self.state();
        let under_way = state.under_way.as_ref()?;
        let ended = state
            .report
            .as_ref()
            .map(|report| under_way.began + report.took);
        let lame = state.stages[0].phase() == Phase::LameDuck;
        let draining = if lame {
            under_way.began
        } else {
            under_way.lame_duck_until
        };
        Some(ended.or(under_way.cut_at).unwrap_or(draining))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.done.word().phase() == Phase::Drained
    }

    /// What holds any stage open.
    pub(crate) fn holders(&self) -> Vec<Holding> {
        let subjects = subjects(&self.state().all_stages());
        subjects.iter().map(|subject| subject.describe()).collect()
    }

    /// What holds the stages open that the report is of.
    pub(super) fn work(&self) -> Vec<Arc<dyn Describe>> {
        subjects(&self.state().stages.clone())
    }

    /// Guards of all stages, those that cannot say what they are included.
    pub(crate) fn guards(&self) -> usize {
        let stages = self.state().all_stages();
        stages.iter().map(|stage| stage.gate().guards()).sum()
    }
}

fn subjects(stages: &[Arc<Stage>]) -> Vec<Arc<dyn Describe>> {
    let all = stages.iter().map(|stage| stage.signal.subjects());
    all.flatten().collect()
}
