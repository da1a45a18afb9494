//! One stage of a service, as its guards and its tasks see it.

use std::sync::{Arc, OnceLock, Weak};

use super::Drain;
use crate::{
    Phase,
    gate::{Gate, Owner},
    signal::Signal,
};

/// One stage: what its guards and its tasks share.
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) signal: Signal,
    gate: OnceLock<Gate<Stage>>,
    drain: Weak<Drain>,
}

impl Stage {
    pub(super) fn new(name: &str, phase: Phase, drain: Weak<Drain>) -> Arc<Self> {
        let stage = Arc::new(Self {
            name: name.to_owned(),
            signal: Signal::new(phase),
            gate: OnceLock::new(),
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
    pub(crate) fn count_stayed(&self, why: crate::Stays) -> bool {
        let drain = self.drain.upgrade();
        drain.is_some_and(|drain| drain.count_stayed(why))
    }

    #[cfg(feature = "accept")]
    pub(crate) fn cut_grace(&self) -> std::time::Duration {
        // Without a drain there is no cut, and so no grace.
        let drain = self.drain.upgrade();
        drain.map_or_else(Default::default, |drain| drain.policy.cut_grace())
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
