//! What is to be done next: a state machine without IO.
//!
//! [`Plan::handle`] takes what has happened and returns what is to be done; [`Plan::next`] says when
//! it wants to be called although nothing has. All times are those of one monotonic clock that goes
//! on over an `exec`, and the whole plan can be written down, so that a supervisor that replaces its
//! own program goes on where it was.
//!
//! Invariants:
//! 1. A process that serves is told to leave only by a newer one of the same worker that is ready
//!    and has lived through its probation, or by a stop.
//! 2. What leaves counts for nothing: whether a worker serves is decided by the others alone.
//! 3. Beside those that leave or were killed, a worker has at most its process and the one that is to replace it,
//!    and at most one worker is replaced at a time.
//! 4. A worker that has nobody is to have somebody: one that starts, or a time at which one will.
//! 5. After a stop nothing is started, and each process is killed at its deadline at the latest.
//! 6. A process that can replace itself is asked to, and tells its successor itself: it is told to
//!    leave only by a stop, and what it has handed over to serves until it says otherwise. No
//!    process is told twice.
//! 7. In one call the order is exit, then readiness, then time, so that a process that has died is
//!    not taken for ready.

mod back;
mod leave;
mod replace;
mod succeed;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::types::Worker;
pub(crate) use self::types::{
    Action, Asked, Event, Exit, Id, Leave, Note, Outcome, Process, Rollout, Settings, State, Stop,
    Time,
};

/// All that is known, and what is to come of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    #[serde(skip, default = "Settings::unset")]
    settings: Settings,
    next_id: Id,
    /// The newest number that was given.
    generation: u64,
    /// The newest that has come to serve.
    serving: Option<u64>,
    processes: BTreeMap<Id, Process>,
    workers: Vec<Worker>,
    rollout: Option<Rollout>,
    /// Another one is wanted after it.
    again: bool,
    stop: Option<Stop>,
    #[serde(skip)]
    actions: Vec<Action>,
}

impl Plan {
    /// Of a service that is to start: call [`handle`](Self::handle) with [`Event::Tick`].
    pub(crate) fn new(settings: Settings, now: Time) -> Self {
        let worker = Worker {
            failures: 0,
            restart_at: Some(now),
            waits_for_word: false,
        };
        Self {
            workers: vec![worker; settings.workers.max(1) as usize],
            settings,
            next_id: 0,
            generation: 0,
            serving: None,
            processes: BTreeMap::new(),
            rollout: None,
            again: false,
            stop: None,
            actions: Vec::new(),
        }
    }

    /// Gives a plan that was read its settings. Workers that are too many are told to leave.
    pub(crate) fn resume(mut self, settings: Settings, now: Time) -> (Self, Vec<Action>) {
        let wanted = settings.workers.max(1) as usize;
        self.settings = settings;
        let fresh = Worker {
            failures: 0,
            restart_at: Some(now).filter(|_| self.stop.is_none()),
            waits_for_word: false,
        };
        self.workers.resize(wanted, fresh);
        let surplus = self.ids(|process| process.worker as usize >= wanted && !process.leaves());
        for id in surplus {
            self.leave(id, Leave::Replaced, now);
        }
        if self
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.worker as usize >= wanted)
        {
            self.rollout = None;
        }
        let actions = std::mem::take(&mut self.actions);
        (self, actions)
    }

    /// Takes what has happened, and says what is to be done.
    pub(crate) fn handle(&mut self, event: Event, now: Time) -> Vec<Action> {
        match event {
            Event::Exited(id, exit) => self.exited(id, &exit, now),
            Event::Ready(id) => self.ready(id, now),
            Event::Speaks(id) => {
                if let Some(State::Starting { ready_at, .. }) = self.state(id) {
                    *ready_at = None;
                }
            }
            Event::Extend(id, time) => self.extend(id, now.saturating_add(time)),
            Event::Upgradable(id, signal) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.upgrade_signal = signal;
                }
            }
            Event::Reloading(id) => self.reloading(id, now),
            Event::NotReplaced(id, why) => self.not_replaced(id, why, now),
            Event::Successor { of } => drop(self.successor(of, now)),
            Event::Main(id) => self.main(id, now),
            Event::NewMain { of } => self.new_main(of, now),
            Event::Stopping(id) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.stopping = true;
                }
            }
            Event::Replace => self.replace(now),
            Event::Stop => self.stop(None, now),
            Event::Cut => self.cut(),
            Event::Tick => {}
        }
        self.pass(now);
        self.finish();
        std::mem::take(&mut self.actions)
    }

    /// When it wants to be called at the latest.
    pub(crate) fn next(&self) -> Option<Time> {
        let processes = self
            .processes
            .values()
            .filter_map(|process| match process.state {
                State::Starting { until, ready_at } => {
                    [until, ready_at].into_iter().flatten().min()
                }
                State::Probation { until } => Some(until),
                State::Serving { .. } => None,
                State::Leaving {
                    kill_at, killed, ..
                } => kill_at.filter(|_| !killed),
            });
        let workers = self.workers.iter().filter_map(|worker| worker.restart_at);
        let asked = self.rollout.as_ref().and_then(Rollout::asked_until);
        processes.chain(workers).chain(asked).min()
    }

    /// It wants more time to start, or for its successor to.
    fn extend(&mut self, id: Id, time: Time) {
        let more = |until: &mut Option<Time>| *until = until.map(|until| until.max(time));
        for process in self.processes.values_mut() {
            if process.of == Some(id)
                && let State::Starting { until, .. } = &mut process.state
            {
                more(until);
            }
        }
        if let Some(State::Starting { until, .. }) = self.state(id) {
            more(until);
        }
        if let Some(asked) = self.asked(id).filter(|asked| asked.heard) {
            more(&mut asked.until);
        }
    }

    /// What time has brought.
    fn pass(&mut self, now: Time) {
        for id in self.ids(|_| true) {
            let Some(process) = self.processes.get_mut(&id) else {
                continue;
            };
            let due = |time: Option<Time>| time.is_some_and(|time| time <= now);
            match &mut process.state {
                State::Starting { ready_at, .. } if due(*ready_at) => self.ready(id, now),
                State::Starting { until, .. } if due(*until) => {
                    *until = None;
                    self.actions.push(Action::Say(Note::Late(id)));
                    self.actions.push(Action::Kill(id));
                }
                State::Probation { until } if *until <= now => self.commit(id, now),
                State::Leaving {
                    kill_at, killed, ..
                } if due(*kill_at) && !*killed => {
                    self.overdue(id);
                }
                _ => {}
            }
        }
        self.asked_in_vain(now);
        for worker in 0..self.workers.len() {
            let state = &mut self.workers[worker];
            if state.restart_at.is_some_and(|at| at <= now) {
                // Each start gets a number of its own, but for those of the very first.
                if self.next_id >= self.workers.len() as u64 {
                    self.generation += 1;
                }
                self.spawn(worker as u32, self.generation, now);
            }
        }
    }

    fn spawn(&mut self, worker: u32, generation: u64, now: Time) {
        let id = self.next_id;
        self.next_id += 1;
        let place = &mut self.workers[worker as usize];
        (place.restart_at, place.waits_for_word) = (None, false);
        let state = State::Starting {
            until: Some(now.saturating_add(self.settings.start_timeout)),
            ready_at: self
                .settings
                .ready_after
                .map(|after| now.saturating_add(after)),
        };
        let process = Process {
            worker,
            generation,
            spawned: now,
            state,
            of: None,
            upgrade_signal: None,
            stopping: false,
        };
        self.processes.insert(id, process);
        self.actions.push(Action::Spawn {
            id,
            worker,
            generation,
        });
    }

    fn state(&mut self, id: Id) -> Option<&mut State> {
        self.processes
            .get_mut(&id)
            .map(|process| &mut process.state)
    }

    fn ids(&self, which: impl Fn(&Process) -> bool) -> Vec<Id> {
        let all = self.processes.iter();
        all.filter(|(_, process)| which(process))
            .map(|(id, _)| *id)
            .collect()
    }

    /// All processes, the oldest first.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (Id, &Process)> {
        self.processes.iter().map(|(id, process)| (*id, process))
    }

    pub(crate) fn process(&self, id: Id) -> Option<&Process> {
        self.processes.get(&id)
    }

    /// The newest generation that has come to serve.
    pub(crate) fn serving(&self) -> Option<u64> {
        self.serving
    }

    /// The newest generation that was started.
    pub(crate) fn newest(&self) -> u64 {
        self.generation
    }

    pub(crate) fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref()
    }

    pub(crate) fn stopping(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// Returns true if each worker serves.
    pub(crate) fn is_complete(&self) -> bool {
        let serves = |worker: usize| {
            let mut all = self.processes.values();
            all.any(|process| process.worker as usize == worker && process.serves())
        };
        (0..self.workers.len()).all(serves)
    }
}
