//! What has happened in a generation: noted for who asks, and told to who listens.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    LastUpgrade, PastUpgrade, Step, Upgrade,
    history::{self, History},
};
use crate::{
    control::{Event, Failure, followers::Followers},
    error::Error,
    generation::shared::lock,
    state::{self, Provider, Providers},
};

/// The journal of one generation.
pub(crate) struct Journal {
    state: Mutex<State>,
    pub(crate) followers: Followers,
}

struct State {
    started: Instant,
    running_since: Option<Instant>,
    progress: Option<String>,
    upgrade: Option<(Instant, Upgrade)>,
    last: Option<(Instant, Option<String>)>,
    /// What the upgrade under way is to bring.
    next: u64,
    history: History,
}

/// A view of a journal.
pub(crate) struct Notes {
    pub(crate) started: Instant,
    pub(crate) running_since: Option<Instant>,
    pub(crate) progress: Option<String>,
    pub(crate) upgrade_began: Option<Instant>,
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) last: Option<LastUpgrade>,
    pub(crate) recent: Vec<PastUpgrade>,
    pub(crate) failed: u64,
}

impl Journal {
    /// Begins with what earlier generations have left of theirs.
    pub(crate) fn after(left: &mut HashMap<String, state::State>) -> Self {
        let history = left.remove(history::NAME);
        let history = history.map(|history| History::read(history.bytes()));
        Self {
            state: Mutex::new(State {
                started: Instant::now(),
                running_since: None,
                progress: None,
                upgrade: None,
                last: None,
                next: 0,
                history: history.unwrap_or_default(),
            }),
            followers: Followers::default(),
        }
    }

    /// How long ago the process was started.
    pub(crate) fn age(&self) -> Duration {
        lock(&self.state).started.elapsed()
    }

    pub(crate) fn notes(&self) -> Notes {
        let state = lock(&self.state);
        Notes {
            started: state.started,
            running_since: state.running_since,
            progress: state.progress.clone(),
            upgrade_began: state.upgrade.as_ref().map(|(began, _)| *began),
            upgrade: state.upgrade.as_ref().map(|(began, upgrade)| Upgrade {
                age: began.elapsed(),
                ..upgrade.clone()
            }),
            last: state.last.as_ref().map(|(at, error)| LastUpgrade {
                error: error.clone(),
                ago: at.elapsed(),
            }),
            recent: state.history.recent(),
            failed: state.history.failed(),
        }
    }

    /// Leaves what a successor is to begin with.
    pub(crate) fn keep(self: &Arc<Self>, providers: &mut Providers) {
        let journal = Arc::clone(self);
        let left = Provider::Blob(Arc::new(move || {
            Ok(lock(&journal.state).history.to_bytes())
        }));
        providers.insert(history::NAME.to_owned(), (history::VERSION, left));
    }

    /// This process has said what it does, while it starts.
    pub(crate) fn progress(&self, text: &str) {
        lock(&self.state).progress = Some(text.to_owned());
    }

    /// This process serves.
    pub(crate) fn running(&self) {
        lock(&self.state).running_since = Some(Instant::now());
    }

    /// This process serves, as the successor of another.
    pub(crate) fn succeeded(&self, generation: u64) {
        lock(&self.state).history.add(generation, None);
    }

    /// An upgrade begins, of this generation.
    pub(crate) fn begun(&self, generation: u64) {
        let mut state = lock(&self.state);
        state.upgrade = Some((Instant::now(), Upgrade::default()));
        state.next = generation + 1;
        drop(state);
        let pid = std::process::id();
        self.followers.tell(&Event::Begun { pid, generation });
    }

    /// The program is tried first.
    pub(crate) fn checking(&self, pid: u32) {
        self.step(|upgrade| upgrade.step = Step::Checking);
        self.followers.tell(&Event::Checking { pid });
    }

    /// That went well.
    pub(crate) fn checked(&self, pid: u32) {
        self.step(|upgrade| upgrade.step = Step::Starting);
        self.followers.tell(&Event::Checked { pid });
    }

    /// The successor is started.
    pub(crate) fn starting(&self, pid: u32, generation: u64) {
        self.step(|upgrade| {
            upgrade.step = Step::Starting;
            upgrade.successor = Some(pid);
        });
        self.followers.tell(&Event::Starting { pid, generation });
    }

    /// The successor, or what is tried, says what it does.
    pub(crate) fn initialising(&self, pid: u32, text: &str) {
        let text = text.to_owned();
        self.step(|upgrade| {
            if upgrade.step == Step::Starting {
                upgrade.step = Step::Initialising;
            }
            upgrade.progress = Some(text.clone());
        });
        self.followers.tell(&Event::Initialising { pid, text });
    }

    /// The successor is ready.
    pub(crate) fn ready(&self, pid: u32) {
        self.step(|upgrade| upgrade.step = Step::Ready);
        self.followers.tell(&Event::Ready { pid });
    }

    /// The successor serves.
    pub(crate) fn serving(&self, pid: u32, generation: u64) {
        self.step(|upgrade| upgrade.step = Step::Draining);
        lock(&self.state).last = Some((Instant::now(), None));
        self.followers.tell(&Event::Serving { pid, generation });
    }

    /// The upgrade has failed. This process serves on, or stops for a reason of its own.
    pub(crate) fn failed(&self, err: &Error) {
        self.failed_as(err.failure(), err.chain());
    }

    /// The successor has died after it served, and this process cannot serve again.
    pub(crate) fn lost(&self, message: String) {
        self.failed_as(Failure::Lost, message);
    }

    fn failed_as(&self, kind: Failure, message: String) {
        self.end_of_upgrade(message.clone());
        let failed = Event::Failed { kind, message };
        self.followers.end_upgrades(&failed);
    }

    /// The successor has died after it served, and this process serves again.
    pub(crate) fn resumed(&self, message: &str) {
        self.end_of_upgrade(message.to_owned());
        self.running();
        let message = message.to_owned();
        self.followers.end_upgrades(&Event::Resumed { message });
    }

    fn end_of_upgrade(&self, error: String) {
        let mut state = lock(&self.state);
        state.upgrade = None;
        let next = state.next;
        state.history.add(next, Some(&error));
        state.last = Some((Instant::now(), Some(error)));
    }

    fn step(&self, change: impl FnOnce(&mut Upgrade)) {
        if let Some((_, upgrade)) = &mut lock(&self.state).upgrade {
            change(upgrade);
        }
    }
}
