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
//! 3. Beside those that leave, a worker has at most its process and the one that is to replace it,
//!    and at most one worker is replaced at a time.
//! 4. A worker that has nobody is to have somebody: one that starts, or a time at which one will.
//! 5. After a stop nothing is started, and each process is killed at its deadline at the latest.
//! 6. In one call the order is exit, then readiness, then time, so that a process that has died is
//!    not taken for ready.

mod leave;
mod replace;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// A process that was asked for. No two have the same.
pub(crate) type Id = u64;
/// On the monotonic clock.
pub(crate) type Time = Duration;

/// How long things may take, and how many there are.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many processes serve at a time.
    pub(crate) workers: u32,
    /// A process that says nothing is ready when it has lived for so long; `None` if it must say so.
    pub(crate) ready_after: Option<Duration>,
    /// A process that is not ready by then is killed.
    pub(crate) start_timeout: Duration,
    /// How long a new process has to live, ready, until the old one is told to leave.
    pub(crate) probation: Duration,
    /// How long a replaced process may take to end.
    pub(crate) drain_timeout: Option<Duration>,
    /// How long a stop may take.
    pub(crate) stop_timeout: Option<Duration>,
    /// How many replaced processes of a worker may still drain.
    pub(crate) max_draining: usize,
    /// Whether a process that has ended by itself is started again.
    pub(crate) restart: bool,
    /// The first pause between two starts that fail; it doubles up to [`Self::backoff_max`].
    pub(crate) backoff: Duration,
    /// The longest pause.
    pub(crate) backoff_max: Duration,
    /// A process that has served for so long was no failure.
    pub(crate) stable: Duration,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A process has ended, or could not be started.
    Exited(Id, Exit),
    /// It has said that it is ready.
    Ready(Id),
    /// It has said something: it will say when it is ready, too.
    Speaks(Id),
    /// It wants so much more time to start.
    Extend(Id, Duration),
    /// All processes are to be replaced.
    Replace,
    /// The end is asked for. The second time it is at once.
    Stop,
    /// What still drains is to end now.
    Cut,
    /// Time has passed.
    Tick,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    /// By itself.
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// It never was.
    NotStarted(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start the program.
    Spawn {
        id: Id,
        worker: u32,
        generation: u64,
    },
    /// Tell it to leave.
    Tell(Id, Leave),
    /// Kill it, and whatever is in its process group.
    Kill(Id),
    /// To be known by whoever wants to.
    Say(Note),
    /// All is over.
    Finish(Outcome),
}

/// Why a process is told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Leave {
    /// Another has taken its place.
    Replaced,
    /// The service ends.
    Stop,
}

/// What has come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// It is ready, and has to live through its probation.
    Ready(Id),
    /// It serves, and those before it leave.
    Serving(Id),
    /// All workers have been replaced.
    Replaced { generation: u64 },
    /// They have not: the rest is what it was.
    NotReplaced {
        generation: u64,
        why: String,
        timed_out: bool,
    },
    /// Another replacement follows this one.
    Pending,
    /// It has ended though nobody has told it to.
    Ended { id: Id, why: String },
    /// A worker that has nobody is started after a pause.
    Waits { worker: u32, pause: Duration },
    /// It was not ready in time.
    Late(Id),
    /// It did not leave in time, or is one too many.
    Overdue(Id),
    /// The end has begun.
    Stopping,
}

/// What is left to say at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// How many did not leave in time.
    pub(crate) killed: usize,
    /// How the process ended whose end is that of the service.
    pub(crate) exit: Option<Exit>,
}

/// A process, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) worker: u32,
    pub(crate) generation: u64,
    pub(crate) spawned: Time,
    pub(crate) state: State,
}

/// Where a process stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// It is not ready.
    Starting {
        /// Killed then; `None` if it has been.
        until: Option<Time>,
        /// Ready then.
        ready_at: Option<Time>,
    },
    /// It is ready, and those before it have not been told.
    Probation { until: Time },
    /// It is the one.
    Serving { since: Time },
    /// It was told to leave.
    Leaving {
        since: Time,
        kill_at: Option<Time>,
        killed: bool,
    },
}

impl Process {
    pub(crate) fn leaves(&self) -> bool {
        matches!(self.state, State::Leaving { .. })
    }

    pub(crate) fn serves(&self) -> bool {
        matches!(self.state, State::Serving { .. } | State::Probation { .. })
    }
}

/// A place in which one process serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Worker {
    /// In a row.
    failures: u32,
    restart_at: Option<Time>,
}

/// A replacement of all workers, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rollout {
    pub(crate) generation: u64,
    pub(crate) since: Time,
    worker: u32,
}

/// The end of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) since: Time,
    pub(crate) deadline: Option<Time>,
    outcome: Outcome,
}

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
            Event::Extend(id, time) => {
                if let Some(State::Starting {
                    until: Some(until), ..
                }) = self.state(id)
                {
                    *until = (*until).max(now.saturating_add(time));
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
        processes.chain(workers).min()
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
        self.workers[worker as usize].restart_at = None;
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

impl Settings {
    /// Of a plan that was read, until it is given its own.
    fn unset() -> Self {
        Self {
            workers: 1,
            ready_after: None,
            start_timeout: Duration::ZERO,
            probation: Duration::ZERO,
            drain_timeout: None,
            stop_timeout: None,
            max_draining: usize::MAX,
            restart: true,
            backoff: Duration::ZERO,
            backoff_max: Duration::ZERO,
            stable: Duration::ZERO,
        }
    }
}

impl PartialEq for Settings {
    /// They are the command line's, and no part of what a plan knows.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Settings {}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::NotStarted(why) => f.write_str(why),
        }
    }
}
