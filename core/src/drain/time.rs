//! What a drain does when its time has come.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Drain,
    state::{After, State},
};
use crate::Phase;
#[cfg(not(loom))]
use crate::{sync::MutexGuard, waits::Waits};

impl Drain {
    /// When the clock of the drain of this ordinal has something to do next.
    #[cfg(not(loom))] // Models have no clock to ask.
    pub(crate) fn next_tick(&self, ordinal: u64) -> Option<Instant> {
        self.due(&self.state(), ordinal)
    }

    fn due(&self, state: &State, ordinal: u64) -> Option<Instant> {
        if self.is_over() || state.ordinal != ordinal {
            return None;
        }
        let (under_way, deadline) = (state.under_way.as_ref()?, state.deadline()?);
        let cut_at = match &state.report {
            Some(_) => under_way.cut_behind_at,
            None => under_way.cut_at,
        };
        Some(if let Some(cut_at) = cut_at {
            cut_at + self.policy.cut_grace()
        } else if state.report.is_some() {
            deadline
        } else if state.stages[0].phase() == Phase::LameDuck {
            under_way.lame_duck_until.min(deadline)
        } else {
            under_way.next_saying().unwrap_or(deadline).min(deadline)
        })
    }

    /// Does what the time asks for in the drain of this ordinal.
    pub(crate) fn tick(self: &Arc<Self>, ordinal: u64) {
        let after = {
            let mut state = self.state();
            let now = Instant::now();
            if self.due(&state, ordinal).is_none_or(|due| due > now) {
                return;
            }
            if state.report.is_some() {
                return self.tick_behind(state);
            } else if state.is_cut() {
                self.give_up(&mut state)
            } else if state.deadline().is_some_and(|deadline| deadline <= now) {
                drop(state);
                self.cut_what_is_under_way(Some(ordinal));
                return;
            } else if state.stages[0].phase() == Phase::LameDuck {
                state.start_next_stage()
            } else {
                // What is due before the deadline and the cut, but for the end of the lame duck.
                #[cfg(not(loom))]
                say_what_it_waits_for(state, now);
                return;
            }
        };
        self.finish(after);
    }

    // After the cut and its grace: what still holds is left behind.
    fn give_up(&self, state: &mut State) -> After {
        let mut after = After::default();
        let mut abandoned = 0;
        for stage in &state.stages {
            if stage.phase() != Phase::Drained {
                abandoned += stage.gate().guards();
                stage.signal.set(Phase::Drained);
                after.wake.push(stage.clone());
            }
        }
        self.conclude(state, abandoned, &mut after);
        after
    }
}

/// For the log: an operator asks why it does not stop. Looking locks each lot in turn, so the state
/// is let go of.
#[cfg(not(loom))]
fn say_what_it_waits_for(mut state: MutexGuard<'_, State>, now: Instant) {
    let stage = state.stages.iter().find(|s| s.phase() != Phase::Drained);
    let (stage, deadline) = (stage.cloned(), state.deadline());
    let (Some(stage), Some(under_way), Some(deadline)) = (stage, &mut state.under_way, deadline)
    else {
        return;
    };
    under_way.sayings.said(now);
    let (reason, spans) = (under_way.reason, under_way.spans.clone());
    let took = now.saturating_duration_since(under_way.began).as_secs_f64();
    let left = deadline.saturating_duration_since(now);
    drop(state);
    let (waits, stage) = (Waits::of(&stage), &stage.name);
    let left = left.as_secs_f64();
    // After an upgrade the successor serves, and nobody waits for the end.
    spans.within(|| match reason.is_upgrade() {
        true => {
            tracing::info!(target: "handover::drain", %reason, stage, "draining for {took:.1} s, at most {left:.1} s more; waits for {waits}");
        }
        false => {
            tracing::warn!(target: "handover::drain", %reason, stage, "draining for {took:.1} s, at most {left:.1} s more; waits for {waits}");
        }
    });
}
