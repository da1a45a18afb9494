//! The drain itself: one state machine over all stages of a service.
//!
//! # Invariants
//!
//! 1. Phases change under the state's lock only, and only forward, save in [`Drain::resume`].
//! 2. Stages end in order: a stage leaves `Running` for `Draining` once the one before it is
//!    `Drained`. Exactly one stage is being drained at a time, and its gate is the only closed one
//!    that is not empty. The cut reaches all of them at once.
//! 3. A stage is `Drained` by the last guard of its closed gate, or, after the cut and its grace,
//!    by the clock. With the last of them the report is made.
//! 4. A gate is closed under the state's lock, so that whoever takes the drain back finds it
//!    closed. What closing hands out is dropped, tasks are woken, and what is traced is traced, with
//!    no lock held: all of these call back.
//! 5. The stage behind the report, if there is one, is none of the stages above: it leaves `Running`
//!    once the report has been logged, and the cut reaches it only if it comes, or comes again,
//!    after that. The drain is over when it is `Drained`; without one, when the report has been
//!    logged.

mod behind;
mod spans;
mod stage;
mod state;
mod time;
mod views;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

pub(crate) use self::stage::Stage;
use self::{
    spans::Spans,
    state::{After, Entered, State, UnderWay},
};
#[cfg(not(loom))]
use crate::spread::{self, Turns};
#[cfg(not(loom))]
use crate::waits::Sayings;
use crate::{
    Phase, Policy, Reason, Report, Stayed, Stays, clock,
    report::Tally,
    signal::Signal,
    sync::{Mutex, MutexGuard, lock},
};

/// What all handles of one service share.
pub(crate) struct Drain {
    pub(crate) policy: Policy,
    /// `Running` until everything is drained, then `Drained`.
    pub(crate) done: Signal,
    pub(crate) clock: clock::Clock,
    // Models have no clock to ask.
    #[cfg(not(loom))]
    pub(crate) turns: Turns,
    /// Of connections, which are told and served on.
    #[cfg(not(loom))]
    pub(crate) announces: Turns,
    /// Which generation of a service this is, where there are generations.
    generation: OnceLock<u64>,
    state: Mutex<State>,
}

impl Drain {
    pub(crate) fn new(policy: Policy) -> Arc<Self> {
        Arc::new_cyclic(|weak| Self {
            policy,
            done: Signal::new(Phase::Running),
            clock: clock::Clock::default(),
            #[cfg(not(loom))]
            turns: Turns::new(Policy::close_spread),
            #[cfg(not(loom))]
            announces: Turns::new(spread::announce),
            generation: OnceLock::new(),
            state: Mutex::new(State {
                stages: vec![Stage::new("requests", Phase::Running, weak.clone())],
                ..State::default()
            }),
        })
    }

    /// For who traces the drain.
    #[cfg(all(unix, feature = "process"))]
    pub(crate) fn is_of_generation(&self, number: u64) {
        // One that is given to two generations is that of the first.
        let _ = self.generation.set(number);
    }

    pub(crate) fn first_stage(&self) -> Arc<Stage> {
        self.state().stages[0].clone()
    }

    /// The stage of this name; made, after all others, where there is none.
    pub(crate) fn stage(self: &Arc<Self>, name: &str) -> Arc<Stage> {
        let mut after = After::default();
        let stage = {
            let mut state = self.state();
            if let Some(stage) = state.stages.iter().find(|stage| stage.name == name) {
                return stage.clone();
            }
            let is_late = state.report.is_some();
            let phase = if is_late {
                Phase::Drained
            } else if state.is_cut() {
                Phase::Cutting
            } else {
                Phase::Running
            };
            let stage = Stage::new(name, phase, Arc::downgrade(self));
            state.stages.push(stage.clone());
            if is_late {
                after.base = Some(stage.gate().close());
            }
            stage
        };
        self.finish(after);
        stage
    }

    /// Begins a drain; false if one has begun already.
    pub(crate) fn begin(self: &Arc<Self>, reason: Reason) -> bool {
        if self.state().under_way.is_some() {
            return false;
        }
        // Listing locks each lot in turn, so it is done before the state is locked.
        let work = self.work();
        let at_start = Tally::of(work.iter().map(|holder| holder.kind()));
        let holders = work.len();
        drop(work);
        let deadline = self.policy.deadline(reason.is_upgrade());
        let spans = Arc::new(Spans::new(reason, self.generation.get(), deadline));
        let (after, ordinal) = {
            let mut state = self.state();
            if state.under_way.is_some() {
                return false;
            }
            let began = Instant::now();
            let lame_duck = match reason.is_upgrade() {
                true => Duration::ZERO,
                false => self.policy.lame_duck(),
            };
            let lame_duck_until = began + lame_duck;
            state.under_way = Some(UnderWay {
                reason,
                began,
                lame_duck_until,
                end: began + deadline,
                reserve: self.policy.last_stage(deadline),
                spans: spans.clone(),
                phases: 0,
                #[cfg(not(loom))]
                sayings: Sayings::new(lame_duck_until, self.policy.log_after()),
                is_final: false,
                cut_at: None,
                at_start,
                moved: 0,
                stayed: Stayed::default(),
                cut: Vec::new(),
                cut_behind_at: None,
            });
            state.ordinal += 1;
            let after = if lame_duck.is_zero() {
                state.start_next_stage()
            } else {
                let first = state.stages[0].clone();
                first.signal.set(Phase::LameDuck);
                let entered = state.enters(Phase::LameDuck, None);
                After::waking(first).entering(entered)
            };
            (after, state.ordinal)
        };
        spans.within(|| tracing::info!(%reason, holders, "draining"));
        self.finish(after);
        clock::start(self, ordinal);
        true
    }

    /// Ends what is left, now. Begins the drain if none has begun.
    pub(crate) fn cut(self: &Arc<Self>, reason: Reason) {
        // A drain that is taken back between the two is begun again: what was asked for is an end.
        loop {
            self.begin(reason);
            if self.cut_what_is_under_way(None) {
                return;
            }
        }
    }

    /// Cuts the drain under way, or that of this ordinal only; false if there is none.
    fn cut_what_is_under_way(&self, ordinal: Option<u64>) -> bool {
        let mut cut = self.work();
        cut.retain(|holder| !holder.kind().is_idle());
        // One may have ended its request in between.
        let cut = cut.iter().map(|holder| holder.describe());
        let cut = cut.filter(|holding| !holding.kind.is_idle()).collect();
        let after = {
            let mut state = self.state();
            if self.is_over() {
                return true;
            }
            if ordinal.is_some_and(|ordinal| ordinal != state.ordinal) {
                return false;
            }
            if state.report.is_some() {
                self.cut_behind(state);
                return true;
            }
            if state.is_cut() {
                return true;
            }
            let Some(under_way) = &mut state.under_way else {
                return false;
            };
            under_way.cut_at = Some(Instant::now());
            under_way.cut = cut;
            // A lame duck has not closed its gate yet.
            let mut after = match state.stages[0].phase() {
                Phase::LameDuck => state.start_next_stage(),
                _ => After::default(),
            };
            for stage in &state.stages {
                if stage.phase() < Phase::Cutting {
                    stage.signal.set(Phase::Cutting);
                    after.wake.push(stage.clone());
                }
            }
            after.entering(state.enters(Phase::Cutting, None))
        };
        self.finish(after);
        clock::poke(self);
        true
    }

    /// Takes back a drain for an upgrade; false if it is too late for that.
    pub(crate) fn resume(&self) -> bool {
        let after = {
            let mut state = self.state();
            let takes_back = state.under_way.as_ref().is_some_and(|drain| {
                drain.reason.is_upgrade() && !drain.is_final && drain.cut_at.is_none()
            });
            // The first stage is the service: once it is drained there is nothing to go on with.
            if !takes_back || !state.stages[0].gate().reopen() {
                return false;
            }
            let mut after = After {
                taken_back: state.under_way.take(),
                ..After::default()
            };
            for stage in &state.stages {
                if stage.phase() != Phase::Running {
                    stage.signal.set(Phase::Running);
                    after.wake.push(stage.clone());
                }
            }
            after
        };
        self.finish(after);
        clock::poke(self);
        true
    }

    /// From here on the drain under way is not taken back; false if there is none.
    pub(crate) fn make_final(&self) -> bool {
        match &mut self.state().under_way {
            Some(under_way) => {
                under_way.is_final = true;
                true
            }
            None => false,
        }
    }

    #[cfg(all(unix, feature = "process"))]
    pub(crate) fn count_moved(&self) {
        if let Some(under_way) = &mut self.state().under_way {
            under_way.moved += 1;
        }
    }

    /// Counts a connection that is not moved, if the drain under way is one in which they are.
    pub(crate) fn count_stayed(&self, why: Stays) -> bool {
        match &mut self.state().under_way {
            Some(under_way) if under_way.reason.is_upgrade() => {
                under_way.stayed.add(why);
                true
            }
            _ => false,
        }
    }

    fn stage_is_empty(self: &Arc<Self>, stage: &Arc<Stage>) {
        let after = {
            let mut state = self.state();
            if stage.phase() == Phase::Drained {
                return;
            }
            stage.signal.set(Phase::Drained);
            let mut after = if state.is_behind(stage) {
                self.over()
            } else {
                state.start_next_stage()
            };
            after.wake.push(stage.clone());
            if after.base.is_none() {
                self.conclude(&mut state, 0, &mut after);
            }
            after
        };
        self.finish(after);
    }

    /// Makes the report, of all stages but that behind it.
    fn conclude(&self, state: &mut State, abandoned: usize, after: &mut After) {
        if state.report.is_some() {
            return;
        }
        #[cfg(not(loom))]
        let ordinal = state.ordinal;
        let Some(under_way) = &mut state.under_way else {
            return;
        };
        let report = Report {
            reason: under_way.reason,
            took: under_way.began.elapsed(),
            at_start: under_way.at_start,
            moved: under_way.moved,
            stayed: under_way.stayed,
            #[cfg(not(loom))]
            reconnects: self.turns.reconnects(ordinal),
            cut: std::mem::take(&mut under_way.cut),
            abandoned,
        };
        after.report = Some((report.clone(), under_way.spans.clone()));
        state.report = Some(report);
    }

    /// Under the state's lock.
    fn over(&self) -> After {
        if self.is_over() {
            return After::default();
        }
        self.done.set(Phase::Drained);
        After {
            done: true,
            ..After::default()
        }
    }

    fn finish(self: &Drain, after: After) {
        if let Some(Entered { spans, phase }) = &after.entered {
            spans.enter(phase);
        }
        if let Some(under_way) = &after.taken_back {
            under_way.spans.close("taken back");
        }
        for stage in &after.wake {
            stage.signal.wake();
        }
        if after.done {
            self.done.wake();
            clock::poke(self);
        }
        drop(after.base);
        if let Some((report, spans)) = after.report {
            spans.report(&report);
            self.go_behind_report();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        // An open gate and its shards own each other: let go of those whose turn never came.
        let stages = self.state().all_stages();
        stages.iter().for_each(|stage| drop(stage.gate().close()));
    }
}

/// Owns the drain for all handles; with the last of them the gates are closed.
pub(crate) struct Handles(pub(crate) Arc<Drain>);

impl Drop for Handles {
    fn drop(&mut self) {
        // Nobody can drain any more, so the gates need not wait for a clock that may still hold
        // the drain. One that is under way goes on by itself.
        let stages = self.0.state().all_stages();
        if self.0.state().under_way.is_none() {
            stages.iter().for_each(|stage| drop(stage.gate().close()));
        }
    }
}

#[cfg(all(test, not(loom), unix, feature = "process"))]
mod tests;
