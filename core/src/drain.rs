//! The drain itself: one state machine over all stages of a service.
//!
//! # Invariants
//!
//! 1. Phases change under the state's lock only, and only forward, save in [`Drain::resume`].
//! 2. Stages end in order: a stage leaves `Running` for `Draining` once the one before it is
//!    `Drained`. Exactly one stage is being drained at a time, and its gate is the only closed one
//!    that is not empty. The cut reaches all stages at once.
//! 3. A stage is `Drained` by the last guard of its closed gate, or, after the cut and its grace,
//!    by the clock. The drain is over when its last stage is.
//! 4. A gate is closed under the state's lock, so that whoever takes the drain back finds it
//!    closed. What closing hands out is dropped, and tasks are woken, with no lock held: both call
//!    back.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

#[cfg(not(loom))]
use crate::spread::{self, Turns};
#[cfg(not(loom))]
use crate::waits::{Sayings, Waits};
use crate::{
    Phase, Policy, Reason, Report, Stayed, Stays, clock,
    gate::{Base, Gate, Owner},
    holder::Holding,
    report::Tally,
    signal::Signal,
    sync::{Mutex, MutexGuard, lock},
};

/// One stage: what its guards and its tasks share.
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) signal: Signal,
    gate: std::sync::OnceLock<Gate<Stage>>,
    drain: Weak<Drain>,
}

impl Stage {
    fn new(name: &str, phase: Phase, drain: Weak<Drain>) -> Arc<Self> {
        let stage = Arc::new(Self {
            name: name.to_owned(),
            signal: Signal::new(phase),
            gate: std::sync::OnceLock::new(),
            drain,
        });
        let gate = Gate::open(crate::shard::count(), &stage);
        let fresh = stage.gate.set(gate).is_ok();
        debug_assert!(fresh, "a stage's gate is made once, here");
        stage
    }

    pub(crate) fn gate(&self) -> &Gate<Stage> {
        self.gate.get().expect("set where a stage is made")
    }

    pub(crate) fn phase(&self) -> Phase {
        self.signal.word().phase()
    }

    #[cfg(feature = "accept")]
    pub(crate) fn count_stayed(&self, why: Stays) -> bool {
        let drain = self.drain.upgrade();
        drain.is_some_and(|drain| drain.count_stayed(why))
    }

    #[cfg(feature = "accept")]
    pub(crate) fn cut_grace(&self) -> Duration {
        // Without a drain there is no cut, and so no grace.
        let drain = self.drain.upgrade();
        drain.map_or(Duration::ZERO, |drain| drain.policy.cut_grace())
    }
}

impl Owner for Stage {
    fn gate_is_empty(self: &Arc<Self>) {
        // Without a drain every handle has been dropped, and nobody is left to be told.
        if let Some(drain) = self.drain.upgrade() {
            drain.stage_is_empty(self);
        }
    }
}

/// What all handles of one service share.
pub(crate) struct Drain {
    pub(crate) policy: Policy,
    /// `Running` until the last stage is drained, then `Drained`.
    pub(crate) done: Signal,
    pub(crate) clock: clock::Clock,
    // Models have no clock to ask.
    #[cfg(not(loom))]
    pub(crate) turns: Turns,
    /// Of connections, which are told and served on.
    #[cfg(not(loom))]
    pub(crate) announces: Turns,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stages: Vec<Arc<Stage>>,
    under_way: Option<UnderWay>,
    report: Option<Report>,
    // Counts drains, so that the clock of one that was taken back does not move the next.
    ordinal: u64,
}

struct UnderWay {
    reason: Reason,
    began: Instant,
    lame_duck_until: Instant,
    deadline: Instant,
    #[cfg(not(loom))]
    sayings: Sayings,
    // Somebody has let go of what a service that is taken back would need.
    is_final: bool,
    cut_at: Option<Instant>,
    at_start: Tally,
    moved: usize,
    stayed: Stayed,
    cut: Vec<Holding>,
}

/// What remains to be done once the state's lock has been released.
#[derive(Default)]
#[must_use]
struct After {
    wake: Vec<Arc<Stage>>,
    // Of the stage that is being drained.
    base: Option<Base<Stage>>,
    done: bool,
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
            state: Mutex::new(State {
                stages: vec![Stage::new("requests", Phase::Running, weak.clone())],
                ..State::default()
            }),
        })
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
            let phase = if self.is_over() {
                Phase::Drained
            } else if state.is_cut() {
                Phase::Cutting
            } else {
                Phase::Running
            };
            let stage = Stage::new(name, phase, Arc::downgrade(self));
            state.stages.push(stage.clone());
            if self.is_over() {
                after.base = Some(stage.gate().close());
            }
            stage
        };
        self.finish(after);
        stage
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        Some(self.state().under_way.as_ref()?.reason)
    }

    /// The number and the deadline of the drain under way.
    #[cfg(not(loom))]
    pub(crate) fn under_way(&self) -> Option<(u64, Instant)> {
        let state = self.state();
        Some((state.ordinal, state.deadline()?))
    }

    /// When the deadline is over, once a drain has begun.
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

    pub(crate) fn holders(&self) -> Vec<Holding> {
        let stages = self.state().stages.clone();
        let subjects = stages.iter().flat_map(|stage| stage.signal.subjects());
        subjects.map(|subject| subject.describe()).collect()
    }

    /// Guards of all stages, those that cannot say what they are included.
    pub(crate) fn guards(&self) -> usize {
        let stages = self.state().stages.clone();
        stages.iter().map(|stage| stage.gate().guards()).sum()
    }

    /// Begins a drain; false if one has begun already.
    pub(crate) fn begin(self: &Arc<Self>, reason: Reason) -> bool {
        // Listing locks each lot in turn, so it is done before the state is locked.
        let holders = self.holders();
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
                deadline: began + self.policy.deadline(reason.is_upgrade()),
                #[cfg(not(loom))]
                sayings: Sayings::new(lame_duck_until, self.policy.log_after()),
                is_final: false,
                cut_at: None,
                at_start: Tally::of(&holders),
                moved: 0,
                stayed: Stayed::default(),
                cut: Vec::new(),
            });
            state.ordinal += 1;
            let after = if lame_duck.is_zero() {
                state.start_next_stage()
            } else {
                let first = state.stages[0].clone();
                first.signal.set(Phase::LameDuck);
                After::waking(first)
            };
            (after, state.ordinal)
        };
        tracing::info!(%reason, holders = holders.len(), "draining");
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
        let holders = self.holders();
        let after = {
            let mut state = self.state();
            if state.is_cut() || self.is_over() {
                return true;
            }
            if ordinal.is_some_and(|ordinal| ordinal != state.ordinal) {
                return false;
            }
            let Some(under_way) = &mut state.under_way else {
                return false;
            };
            under_way.cut_at = Some(Instant::now());
            under_way.cut = holders.into_iter().filter(|h| !h.kind.is_idle()).collect();
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
            after
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
            state.under_way = None;
            let mut after = After::default();
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

    /// When the clock of the drain of this ordinal has something to do next.
    #[cfg(not(loom))] // Models have no clock to ask.
    pub(crate) fn next_tick(&self, ordinal: u64) -> Option<Instant> {
        self.due(&self.state(), ordinal)
    }

    fn due(&self, state: &State, ordinal: u64) -> Option<Instant> {
        if self.is_over() || state.ordinal != ordinal {
            return None;
        }
        let under_way = state.under_way.as_ref()?;
        Some(match (under_way.cut_at, state.stages[0].phase()) {
            (Some(cut_at), _) => cut_at + self.policy.cut_grace(),
            (None, Phase::LameDuck) => under_way.lame_duck_until.min(under_way.deadline),
            (None, _) => under_way.next_saying().min(under_way.deadline),
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
            if state.is_cut() {
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

    fn stage_is_empty(self: &Arc<Self>, stage: &Arc<Stage>) {
        let after = {
            let mut state = self.state();
            if stage.phase() == Phase::Drained {
                return;
            }
            stage.signal.set(Phase::Drained);
            let mut after = state.start_next_stage();
            after.wake.push(stage.clone());
            if after.base.is_none() {
                self.conclude(&mut state, 0, &mut after);
            }
            after
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

    fn conclude(&self, state: &mut State, abandoned: usize, after: &mut After) {
        if self.is_over() {
            return;
        }
        #[cfg(not(loom))]
        let ordinal = state.ordinal;
        let Some(under_way) = &mut state.under_way else {
            return;
        };
        state.report = Some(Report {
            reason: under_way.reason,
            took: under_way.began.elapsed(),
            at_start: under_way.at_start,
            moved: under_way.moved,
            stayed: under_way.stayed,
            #[cfg(not(loom))]
            reconnects: self.turns.reconnects(ordinal),
            cut: std::mem::take(&mut under_way.cut),
            abandoned,
        });
        self.done.set(Phase::Drained);
        after.done = true;
    }

    fn finish(self: &Drain, after: After) {
        for stage in &after.wake {
            stage.signal.wake();
        }
        if after.done {
            self.done.wake();
            clock::poke(self);
        }
        drop(after.base);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        // An open gate and its shards own each other: let go of those whose turn never came.
        let stages = self.state().stages.clone();
        stages.iter().for_each(|stage| drop(stage.gate().close()));
    }
}

/// For the log: an operator asks why it does not stop. Looking locks each lot in turn, so the state
/// is let go of.
#[cfg(not(loom))]
fn say_what_it_waits_for(mut state: MutexGuard<'_, State>, now: Instant) {
    let stage = state.stages.iter().find(|s| s.phase() != Phase::Drained);
    let (Some(stage), Some(under_way)) = (stage.cloned(), &mut state.under_way) else {
        return;
    };
    under_way.sayings.said(now);
    let reason = under_way.reason;
    let took = now.saturating_duration_since(under_way.began).as_secs_f64();
    let left = under_way.deadline.saturating_duration_since(now);
    drop(state);
    let (waits, stage) = (Waits::of(&stage), &stage.name);
    let left = left.as_secs_f64();
    // After an upgrade the successor serves, and nobody waits for the end.
    if reason.is_upgrade() {
        tracing::info!(%reason, stage, "draining for {took:.1} s, at most {left:.1} s more; waits for {waits}");
    } else {
        tracing::warn!(%reason, stage, "draining for {took:.1} s, at most {left:.1} s more; waits for {waits}");
    }
}

impl UnderWay {
    /// When it is to say what it waits for, if before the deadline.
    #[cfg(not(loom))]
    fn next_saying(&self) -> Instant {
        self.sayings.due().unwrap_or(self.deadline)
    }

    /// Models have no log.
    #[cfg(loom)]
    fn next_saying(&self) -> Instant {
        self.deadline
    }
}

impl State {
    fn is_cut(&self) -> bool {
        self.under_way
            .as_ref()
            .is_some_and(|under_way| under_way.cut_at.is_some())
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.under_way.as_ref()?.deadline)
    }

    /// Starts the first stage that is not drained, if there is one, and closes its gate.
    fn start_next_stage(&mut self) -> After {
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
    fn waking(stage: Arc<Stage>) -> Self {
        Self {
            wake: vec![stage],
            ..Self::default()
        }
    }
}

/// Owns the drain for all handles; with the last of them the gates are closed.
pub(crate) struct Handles(pub(crate) Arc<Drain>);

impl Drop for Handles {
    fn drop(&mut self) {
        // Nobody can drain any more, so the gates need not wait for a clock that may still hold
        // the drain. One that is under way goes on by itself.
        let stages = self.0.state().stages.clone();
        if self.0.state().under_way.is_none() {
            stages.iter().for_each(|stage| drop(stage.gate().close()));
        }
    }
}

#[cfg(all(test, not(loom), unix, feature = "process"))]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use crate::{Graceful, Reason};

    #[tokio::test(start_paused = true)]
    async fn a_phase_was_entered_when_it_began() {
        let (second, tick) = (Duration::from_secs(1), Duration::from_millis(10));
        let graceful = Graceful::builder().lame_duck(second).build();
        let guard = graceful.guard();
        let entered = || graceful.drain_ref().entered();
        assert_eq!(entered(), None);
        let began = Instant::now();
        graceful.drain();
        sleep(tick).await;
        assert_eq!(entered(), Some(began));
        graceful.draining().await;
        sleep(tick).await;
        assert_eq!(entered(), Some(began + second));
        let cut = Instant::now();
        graceful.cut();
        sleep(tick).await;
        assert_eq!(entered(), Some(cut));
        let ended = Instant::now();
        drop(guard);
        sleep(tick).await;
        assert_eq!(entered(), Some(ended));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_moved_is_reported() {
        let graceful = Graceful::new();
        let guard = graceful.guard();
        graceful.drain_for(Reason::Upgrade { successor: 7 });
        graceful.count_moved();
        graceful.count_moved();
        drop(guard);
        assert_eq!(graceful.drained().await.moved, 2);
    }
}
