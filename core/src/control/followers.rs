//! Who hears of an upgrade and of a drain.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use super::{Event, caller::Caller};
use crate::generation::shared::lock;

/// Callers that wait for an outcome.
#[derive(Default)]
pub(crate) struct Followers {
    all: Mutex<Vec<Follower>>,
}

struct Follower {
    caller: Arc<Caller>,
    /// It has asked for an upgrade, so that a failure of it is the end. Others wait for the drain.
    upgrade: bool,
}

impl Followers {
    pub(crate) fn add(&self, caller: Arc<Caller>, upgrade: bool) {
        lock(&self.all).push(Follower { caller, upgrade });
    }

    pub(crate) fn tell(&self, event: &Event) {
        self.each(|caller| caller.tell(event));
    }

    /// Tells something that the next such line replaces.
    pub(crate) fn tell_if_idle(&self, event: &Event) {
        self.each(|caller| caller.tell_if_idle(event));
    }

    fn each(&self, tell: impl Fn(&Caller)) {
        let mut all = lock(&self.all);
        all.iter().for_each(|follower| tell(&follower.caller));
        all.retain(|follower| !follower.caller.is_closed());
    }

    /// The outcome for those who have asked for an upgrade.
    pub(crate) fn end_upgrades(&self, event: &Event) {
        lock(&self.all).retain(|follower| {
            if follower.upgrade {
                follower.caller.tell(event);
            }
            !follower.upgrade
        });
    }

    /// The outcome for all.
    pub(crate) fn end(&self, event: &Event) {
        let all = std::mem::take(&mut *lock(&self.all));
        all.iter().for_each(|follower| follower.caller.tell(event));
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.all).is_empty()
    }
}

impl fmt::Debug for Followers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = lock(&self.all).len();
        f.debug_tuple("Followers").field(&count).finish()
    }
}
