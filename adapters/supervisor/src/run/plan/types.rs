//! What the plan knows, hears and asks for.

use std::time::Duration;

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
    /// Whether a process that can is asked to replace itself.
    pub(crate) asks: bool,
    /// One that does not begin to do so within this is replaced by us.
    pub(crate) answer: Duration,
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
    /// It replaces itself at this signal, or not any more.
    Upgradable(Id, Option<i32>),
    /// It has begun to replace itself.
    Reloading(Id),
    /// It serves on, for this reason.
    NotReplaced(Id, String),
    /// It has started a successor, which is not the main process yet.
    Successor { of: Id },
    /// It is the main process, as it says, or the one that was.
    Main(Id),
    /// A process that was not known is.
    NewMain { of: Id },
    /// It drains, as it was told.
    Stopping(Id),
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
    /// Its parent knows, who was not us.
    Unseen,
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
    /// The process that was named is ours from here on.
    Adopt { id: Id, generation: u64 },
    /// Ask it, by this signal, to replace itself.
    Ask(Id, i32),
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
    /// It was asked to replace itself and does not begin to: one is started for it.
    NoAnswer(Id),
    /// It had handed over, and serves again.
    Back(Id),
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
    /// Who has started it, if that was not us.
    #[serde(default)]
    pub(crate) of: Option<Id>,
    /// The signal at which it replaces itself, if it can.
    #[serde(default)]
    pub(crate) upgrade_signal: Option<i32>,
    /// It has said that it drains.
    #[serde(default)]
    pub(crate) stopping: bool,
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
    /// It was told to leave, or leaves by itself.
    Leaving {
        since: Time,
        kill_at: Option<Time>,
        killed: bool,
        /// If not, it may come back: what it has handed over to may die.
        #[serde(default = "yes")]
        told: bool,
    },
}

impl Rollout {
    pub(super) fn asked_until(&self) -> Option<Time> {
        self.asked.as_ref()?.until
    }

    /// Who replaces itself, and has begun to.
    pub(crate) fn reloads(&self) -> Option<Id> {
        self.asked
            .as_ref()
            .filter(|asked| asked.heard)
            .map(|asked| asked.id)
    }
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
pub(super) struct Worker {
    /// In a row.
    pub(super) failures: u32,
    pub(super) restart_at: Option<Time>,
    /// That is so late because one that has handed over may come back.
    #[serde(default)]
    pub(super) waits_for_word: bool,
}

/// A replacement of all workers, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rollout {
    pub(crate) generation: u64,
    pub(crate) since: Time,
    pub(super) worker: u32,
    /// Who replaces itself in this worker, if we do not start the process.
    #[serde(default)]
    pub(super) asked: Option<Asked>,
}

/// A process that was asked to replace itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(super) id: Id,
    /// Until when it has to go on; `None` while its successor starts.
    pub(super) until: Option<Time>,
    /// It has begun.
    pub(super) heard: bool,
    /// How its successor ended.
    pub(super) why: Option<String>,
}

/// The end of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) since: Time,
    pub(crate) deadline: Option<Time>,
    pub(super) outcome: Outcome,
}

fn yes() -> bool {
    true
}

impl Settings {
    /// Of a plan that was read, until it is given its own.
    pub(super) fn unset() -> Self {
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
            asks: false,
            answer: Duration::ZERO,
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
            Self::Unseen => f.write_str("who has started it knows how"),
            Self::NotStarted(why) => f.write_str(why),
        }
    }
}
