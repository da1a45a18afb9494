//! Where a generation stands, as data.
//!
//! A [`Status`] is what [`Generation::status`](crate::Generation::status) returns and what the
//! control socket answers `status` with. It is written by one release and read by another: fields
//! are only ever added, what is missing has its default, and what is not known is left out.

mod held;
pub(crate) mod history;
pub(crate) mod journal;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use self::held::{Held, HeldKind};
pub(crate) use crate::seconds;
use crate::{
    Phase,
    generation::shared::{Shared, lock},
};

/// Where a generation stands at one moment.
///
/// ```no_run
/// # fn example(generation: &handover::Generation) {
/// let status = generation.status();
/// println!("generation {}: {} for {:?}", status.generation, status.standing, status.since);
/// println!("{}", status.held);
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// How many generations were before it.
    pub generation: u64,
    /// Which release it is, if the program [says so](crate::GenerationBuilder::release).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Where it stands.
    pub standing: Standing,
    /// For how long it has stood there.
    #[serde(rename = "since_seconds", with = "seconds")]
    pub since: Duration,
    /// How long ago it was started.
    #[serde(rename = "age_seconds", with = "seconds")]
    pub age: Duration,
    /// What it does while it starts, as it has said itself.
    pub progress: Option<String>,
    /// Why it drains, for people.
    pub reason: Option<String>,
    /// How long it is until the deadline of its drain.
    #[serde(rename = "remaining_seconds", with = "seconds::option")]
    pub remaining: Option<Duration>,
    /// The process that handed over to it, whether it is still there or not.
    pub predecessor: Option<u32>,
    /// The process that it has handed over to.
    pub successor: Option<u32>,
    /// The generations before it that are still there, the oldest first: they drain.
    pub older: Vec<Older>,
    /// The upgrade under way: until the successor serves, and then until this process has drained.
    pub upgrade: Option<Upgrade>,
    /// How the last upgrade of this process ended.
    pub last_upgrade: Option<LastUpgrade>,
    /// The processes of a supervisor that serve, or are to. A service by itself has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<Worker>,
    /// The last upgrades of the service, the newest first, those of earlier generations included.
    pub recent_upgrades: Vec<PastUpgrade>,
    /// How many upgrades of the service have failed, in all generations.
    pub failed_upgrades: u64,
    /// The sockets it uses, and passes on.
    pub listeners: Vec<Socket>,
    /// What holds its drain open, or would, if one began.
    pub held: Held,
}

/// Where a generation stands.
///
/// # Examples
///
/// ```
/// use handover::status::Standing;
///
/// let names: Vec<_> = Standing::all().map(Standing::name).collect();
/// assert_eq!(names[..2], ["starting", "running"]);
/// assert_eq!(Standing::default(), Standing::Starting);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standing {
    /// It is not ready yet.
    #[default]
    Starting,
    /// It serves.
    Running,
    /// It serves, and its successor starts.
    Upgrading,
    /// As [`Phase::LameDuck`].
    LameDuck,
    /// As [`Phase::Draining`].
    Draining,
    /// As [`Phase::Cutting`].
    Cutting,
    /// As [`Phase::Drained`].
    Drained,
    /// What a later release has a word for.
    #[serde(other)]
    Unknown,
}

impl Standing {
    /// All that a generation of this release goes through, in their order.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Self::Starting,
            Self::Running,
            Self::Upgrading,
            Self::LameDuck,
            Self::Draining,
            Self::Cutting,
            Self::Drained,
        ]
        .into_iter()
    }

    /// Its name in metrics and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Upgrading => "upgrading",
            Self::LameDuck => "lame_duck",
            Self::Draining => "draining",
            Self::Cutting => "cutting",
            Self::Drained => "drained",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LameDuck => "lame duck",
            other => other.name(),
        })
    }
}

/// A generation before this one that is still there.
///
/// # Examples
///
/// ```
/// use handover::status::{Older, Status};
///
/// /// The process that has drained for longest, and what it waits for.
/// fn oldest(status: &Status) -> Option<String> {
///     let Older { pid, generation, held, .. } = status.older.first()?;
///     let held = held.as_ref().map_or("it has not said".to_owned(), ToString::to_string);
///     Some(format!("process {pid} of generation {generation}: {held}"))
/// }
///
/// assert_eq!(oldest(&Status::default()), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Older {
    /// The process.
    pub pid: u32,
    /// How many generations were before it.
    pub generation: u64,
    /// Which release it is, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// How long ago it was started, once it has said so.
    #[serde(
        rename = "age_seconds",
        with = "seconds::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub age: Option<Duration>,
    /// What holds its drain open, once it has said so. It does about every second.
    pub held: Option<Held>,
    /// How long it was then until the deadline of its drain.
    #[serde(
        rename = "remaining_seconds",
        with = "seconds::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub remaining: Option<Duration>,
}

/// A process that a supervisor has started.
///
/// # Examples
///
/// ```
/// use handover::status::{Standing, Status, Worker};
///
/// fn serving(status: &Status) -> Vec<u32> {
///     let serves = |worker: &&Worker| worker.standing == Standing::Running;
///     status.workers.iter().filter(serves).map(|worker| worker.pid).collect()
/// }
///
/// assert!(serving(&Status::default()).is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Worker {
    /// The process.
    pub pid: u32,
    /// How many generations were before its own.
    pub generation: u64,
    /// Which of the workers it is, from 0.
    pub index: u32,
    /// Where it stands.
    pub standing: Standing,
    /// How long ago it was started.
    #[serde(rename = "age_seconds", with = "seconds")]
    pub age: Duration,
    /// What it last said that it does.
    pub progress: Option<String>,
}

/// An upgrade under way.
///
/// # Examples
///
/// ```
/// use handover::status::{Status, Step, Upgrade};
///
/// fn describe(upgrade: &Upgrade) -> String {
///     let what = match upgrade.step {
///         Step::Initialising => upgrade.progress.as_deref().unwrap_or("starting up"),
///         Step::Draining => "the successor serves",
///         _ => "starting",
///     };
///     format!("{what}, for {:.1} s now", upgrade.age.as_secs_f64())
/// }
///
/// assert_eq!(describe(&Upgrade::default()), "starting, for 0.0 s now");
/// assert_eq!(Status::default().upgrade, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Upgrade {
    /// How far it has come.
    pub step: Step,
    /// The successor's process, once it is started.
    pub successor: Option<u32>,
    /// What the successor says that it does.
    pub progress: Option<String>,
    /// How long ago the upgrade began.
    #[serde(rename = "age_seconds", with = "seconds")]
    pub age: Duration,
}

/// How far an upgrade has come.
///
/// # Examples
///
/// ```
/// use handover::status::{Status, Step};
///
/// /// Whether the next release has taken over.
/// fn has_taken_over(status: &Status) -> bool {
///     status.upgrade.as_ref().is_some_and(|upgrade| upgrade.step == Step::Draining)
/// }
///
/// assert!(!has_taken_over(&Status::default()));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// The successor is being started.
    #[default]
    Starting,
    /// The program is tried first: [`check_first`](crate::GenerationBuilder::check_first).
    Checking,
    /// The successor has said what it does.
    Initialising,
    /// The successor may serve.
    Ready,
    /// The successor serves, and this process drains.
    Draining,
    /// What a later release has a word for.
    #[serde(other)]
    Unknown,
}

/// How an upgrade ended.
///
/// # Examples
///
/// ```
/// use handover::status::{LastUpgrade, Status};
///
/// fn complaint(status: &Status) -> Option<String> {
///     let LastUpgrade { error, ago, .. } = status.last_upgrade.as_ref()?;
///     error.as_ref().map(|error| format!("failed {} s ago: {error}", ago.as_secs()))
/// }
///
/// assert_eq!(complaint(&Status::default()), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LastUpgrade {
    /// Why it failed; `None` if the successor serves.
    pub error: Option<String>,
    /// How long ago.
    #[serde(rename = "ago_seconds", with = "seconds")]
    pub ago: Duration,
}

/// An upgrade that has ended, of this generation or an earlier one.
///
/// # Examples
///
/// ```
/// use handover::status::{PastUpgrade, Status};
///
/// fn failed(status: &Status) -> Vec<u64> {
///     let failed = |past: &&PastUpgrade| past.error.is_some();
///     status.recent_upgrades.iter().filter(failed).map(|past| past.generation).collect()
/// }
///
/// assert!(failed(&Status::default()).is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PastUpgrade {
    /// Which generation it brought, or would have brought.
    pub generation: u64,
    /// Why it failed; `None` if that generation came to serve.
    pub error: Option<String>,
    /// How long ago.
    #[serde(rename = "ago_seconds", with = "seconds")]
    pub ago: Duration,
}

/// A socket that a generation uses.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover::Error> {
/// use handover::{Generation, status::Socket};
///
/// let generation = Generation::start()?;
/// let _listener = generation.listen("web=127.0.0.1:0").await?;
/// let status = generation.status();
/// let Socket { name, address, kind, .. } = &status.listeners[0];
/// assert_eq!((name.as_str(), kind.as_str()), ("web", "tcp"));
/// println!("{address}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Socket {
    /// Under this name the next generation finds it.
    pub name: String,
    /// Where it listens, or is bound.
    pub address: String,
    /// What it is: `tcp`, `unix`, `udp`.
    pub kind: String,
}

impl Status {
    pub(crate) fn of(shared: &Shared) -> Self {
        let graceful = &shared.graceful;
        let drain = graceful.drain_ref();
        let phase = graceful.phase();
        let notes = shared.journal.notes();
        let now = Instant::now();
        let standing = match phase {
            Phase::Running if !shared.is_ready() => Standing::Starting,
            Phase::Running if notes.upgrade.is_some() => Standing::Upgrading,
            Phase::Running => Standing::Running,
            Phase::LameDuck => Standing::LameDuck,
            Phase::Draining => Standing::Draining,
            Phase::Cutting => Standing::Cutting,
            Phase::Drained => Standing::Drained,
        };
        let since = match standing {
            Standing::Starting => Some(notes.started),
            Standing::Upgrading => notes.upgrade_began,
            Standing::Running => notes.running_since,
            _ => drain.entered(),
        };
        let successor = notes.upgrade.as_ref().and_then(|upgrade| upgrade.successor);
        Self {
            pid: std::process::id(),
            generation: shared.number,
            release: shared.release.clone(),
            standing,
            since: now.saturating_duration_since(since.unwrap_or(notes.started)),
            age: now.saturating_duration_since(notes.started),
            progress: notes.progress.filter(|_| !shared.is_ready()),
            reason: graceful.reason().map(|reason| reason.to_string()),
            remaining: graceful.remaining(),
            predecessor: shared.predecessor.as_ref().map(|before| before.pid),
            successor: successor.filter(|_| shared.has_handed_over()),
            older: shared.older.statuses(),
            upgrade: notes.upgrade,
            last_upgrade: notes.last,
            workers: Vec::new(),
            recent_upgrades: notes.recent,
            failed_upgrades: notes.failed,
            listeners: lock(&shared.registry).in_use(),
            held: Held::of(graceful),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_standing_has_one_name() {
        for standing in Standing::all() {
            assert_eq!(serde_json::to_value(standing).unwrap(), standing.name());
        }
    }
}
