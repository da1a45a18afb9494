//! What is said over the control socket, as lines of JSON. No IO.
//!
//! Fields are only ever added, and each has a default; what is not known is left alone. Each line
//! under `tests/golden/control-v1` must be understood for ever.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Report,
    error::{Error, Kind},
    status::{Held, Status, seconds},
};

/// The version of the protocol that is spoken here.
pub const VERSION: u32 = 1;
/// The longest line of a request, in bytes, with its end.
pub const LONGEST_REQUEST: usize = 4096;

/// What is asked for.
///
/// # Examples
///
/// ```
/// use handover::control::{Request, UpgradeRequest};
///
/// assert_eq!(Request::Status.to_line(), "{\"command\":\"status\"}\n");
/// let upgrade = Request::Upgrade(UpgradeRequest::default().if_generation(6));
/// assert_eq!(upgrade.to_line(), "{\"command\":\"upgrade\",\"if_generation\":6}\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// Where the service stands: one [`Event::Status`].
    Status,
    /// A successor.
    Upgrade(UpgradeRequest),
    /// The end of the service.
    Drain,
    /// The end of what still drains: of this process, or else of those before it.
    Cut,
    /// A supervisor is to replace its own program, and nothing else: it keeps its process id, its
    /// sockets and what it has started. A service refuses it.
    Reexec,
}

/// How an upgrade is asked for.
///
/// # Examples
///
/// ```
/// use handover::control::UpgradeRequest;
///
/// // Tries the program first, and does nothing if somebody else was faster.
/// let request = UpgradeRequest::default().if_generation(6).check(true);
/// assert_eq!((request.if_generation, request.check), (Some(6), true));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct UpgradeRequest {
    /// Only if this is the generation that serves: who asks has seen it, and asks for no second
    /// upgrade on top of somebody else's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
    /// Only if a [check](crate::Generation::check) of the program succeeds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub check: bool,
}

impl UpgradeRequest {
    /// Only if this is the generation that serves.
    #[must_use]
    pub fn if_generation(mut self, generation: u64) -> Self {
        self.if_generation = Some(generation);
        self
    }

    /// Tries the program first.
    #[must_use]
    pub fn check(mut self, check: bool) -> Self {
        self.check = check;
        self
    }
}

/// A line of an answer.
///
/// An upgrade that goes well is heard as `begun`, `starting`, any number of `initialising`, `ready`,
/// `serving`, any number of `draining`, `drained`.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), handover::control::InvalidEvent> {
/// use std::time::Duration;
///
/// use handover::{control::Event, status::Held};
///
/// let heard = [
///     Event::begun(41, 6),
///     Event::starting(52, 7),
///     Event::initialising(52, "warming the cache"),
///     Event::ready(52),
///     Event::serving(52, 7),
///     Event::draining(Held::default(), Some(Duration::from_secs(20))),
///     Event::processes_drained(Duration::from_millis(1204), 0, "drained in 1.204 s"),
/// ];
/// for event in &heard {
///     assert_eq!(&Event::from_line(&event.to_line())?, event);
///     if let Event::Serving { pid, generation, .. } = event {
///         println!("generation {generation} serves, in process {pid}");
///     }
/// }
/// assert!(heard.last().is_some_and(Event::is_last));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// Where the service stands. The last line of its answer.
    #[non_exhaustive]
    Status {
        /// It.
        status: Box<Status>,
    },
    /// The request is carried out, by this process.
    #[non_exhaustive]
    Begun {
        /// The process that answers.
        pid: u32,
        /// Its generation.
        generation: u64,
    },
    /// The program is tried.
    #[non_exhaustive]
    Checking {
        /// The process in which it is.
        pid: u32,
    },
    /// It could become ready.
    #[non_exhaustive]
    Checked {
        /// The process in which it was.
        pid: u32,
    },
    /// The successor has been started.
    #[non_exhaustive]
    Starting {
        /// Its process.
        pid: u32,
        /// Its generation.
        generation: u64,
    },
    /// The successor says what it does.
    #[non_exhaustive]
    Initialising {
        /// Its process.
        pid: u32,
        /// What it says.
        text: String,
    },
    /// The successor may serve.
    #[non_exhaustive]
    Ready {
        /// Its process.
        pid: u32,
    },
    /// The successor serves. What follows is of the process that answers.
    #[non_exhaustive]
    Serving {
        /// The successor's process.
        pid: u32,
        /// Its generation.
        generation: u64,
    },
    /// The process that answers drains.
    #[non_exhaustive]
    Draining {
        /// What holds the drain open.
        held: Held,
        /// How long it is until the deadline.
        #[serde(
            default,
            rename = "remaining_seconds",
            with = "seconds::option",
            skip_serializing_if = "Option::is_none"
        )]
        remaining: Option<Duration>,
    },
    /// The process that answers has drained, and goes. The last line.
    #[non_exhaustive]
    Drained {
        /// How long it took.
        #[serde(default, rename = "took_seconds", with = "seconds")]
        took: Duration,
        /// Connections that the successor has taken over.
        #[serde(default)]
        moved: usize,
        /// How much was cut at the deadline.
        #[serde(default)]
        cut: usize,
        /// Guards that were given up.
        #[serde(default)]
        abandoned: usize,
        /// The whole [report](Report), for people.
        #[serde(default)]
        text: String,
    },
    /// What still drained is being ended. The last line.
    #[non_exhaustive]
    Cut {
        /// The processes, the oldest first.
        pids: Vec<u32>,
    },
    /// The supervisor runs its new program. The last line.
    #[non_exhaustive]
    Reexecuted {
        /// Its process, which is what it was.
        pid: u32,
        /// The version of the program that answers.
        #[serde(default)]
        release: String,
    },
    /// The upgrade has failed: the process that answers serves on, unless the failure is
    /// [`Failure::Lost`] or [`Failure::Stopped`]. The last line.
    #[non_exhaustive]
    Failed {
        /// What kind of failure it was.
        #[serde(default)]
        kind: Failure,
        /// All that is known about it.
        message: String,
    },
    /// The successor has died after it served: the process that answers serves again. The last line.
    #[non_exhaustive]
    Resumed {
        /// How it died.
        message: String,
    },
    /// Nothing has been done. The last line.
    #[non_exhaustive]
    Refused {
        /// Why not.
        #[serde(default)]
        kind: Refusal,
        /// The same, for people.
        message: String,
    },
    /// What a later release has a word for.
    #[serde(other)]
    Unknown,
}

/// Why an upgrade failed.
///
/// # Examples
///
/// ```
/// use handover::control::{Event, Failure};
///
/// /// Whether somebody serves after an upgrade that has failed.
/// fn is_served(event: &Event) -> bool {
///     match event {
///         Event::Failed { kind, .. } => !matches!(kind, Failure::Lost | Failure::Stopped),
///         _ => true,
///     }
/// }
///
/// assert!(is_served(&Event::failed(Failure::TimedOut, "not ready within 60 s")));
/// assert!(!is_served(&Event::failed(Failure::Lost, "the successor has died")));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failure {
    /// The program could not be started.
    Spawn,
    /// The successor ended, or gave up, before it served.
    Ended,
    /// The successor was not ready in time.
    TimedOut,
    /// The process that answers was told to stop meanwhile.
    Stopped,
    /// The successor died after it served, too late for its predecessor to serve again: nobody does.
    Lost,
    /// Something else, or what a later release has a word for.
    #[default]
    #[serde(other)]
    Other,
}

/// Why nothing has been done.
///
/// # Examples
///
/// ```
/// use handover::control::{Event, Refusal};
///
/// /// Whether it is of use to ask once more.
/// fn comes_back(event: &Event) -> bool {
///     let Event::Refused { kind, .. } = event else { return false };
///     matches!(kind, Refusal::InProgress | Refusal::Superseded | Refusal::Busy)
/// }
///
/// assert!(comes_back(&Event::refused(Refusal::Busy, "too many ask at once")));
/// assert!(!comes_back(&Event::refused(Refusal::Forbidden, "another user's service")));
/// assert!(!comes_back(&Event::cut(vec![38, 40])));
/// assert!(!comes_back(&Event::reexecuted(1, "2.4.0")));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// Another generation serves than the one that was named.
    Stale,
    /// An upgrade is under way.
    InProgress,
    /// The process is not ready itself.
    NotReady,
    /// The process is to end.
    Draining,
    /// Another generation serves by now: connect again.
    Superseded,
    /// There is nothing to cut.
    NothingDrains,
    /// The user who asks is neither the service's nor root.
    Forbidden,
    /// Too many ask at once.
    Busy,
    /// The request did not come in time.
    TooSlow,
    /// The request is no line of JSON with a command in it.
    BadRequest,
    /// The command is not known.
    UnknownCommand,
    /// What a later release has a word for.
    #[default]
    #[serde(other)]
    Other,
}

impl Event {
    /// Returns true if no line follows: this is the outcome.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(
            self,
            Self::Status { .. }
                | Self::Drained { .. }
                | Self::Cut { .. }
                | Self::Reexecuted { .. }
                | Self::Failed { .. }
                | Self::Resumed { .. }
                | Self::Refused { .. }
        )
    }

    pub(crate) fn drained(report: &Report) -> Self {
        Self::Drained {
            took: report.took,
            moved: report.moved,
            cut: report.cut.len(),
            abandoned: report.abandoned,
            text: report.to_string(),
        }
    }

    /// The line, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            version: u32,
            #[serde(flatten)]
            event: &'a Event,
        }
        let version = VERSION;
        let line = Line {
            version,
            event: self,
        };
        // Strings, numbers and lists of them: JSON has a form for each.
        let text = serde_json::to_string(&line);
        text.unwrap_or_else(|_| r#"{"event":"unknown"}"#.to_owned()) + "\n"
    }

    /// Reads a line.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or a known event lacks what it must have.
    pub fn from_line(line: &str) -> Result<Self, InvalidEvent> {
        serde_json::from_str(line).map_err(|err| InvalidEvent(err.to_string()))
    }
}

impl Request {
    /// The line, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        let text = serde_json::to_string(self);
        text.unwrap_or_default() + "\n"
    }

    /// Reads a line, with or without its end.
    pub(crate) fn from_line(line: &[u8]) -> Result<Self, Refused> {
        let bad = |message: String| Refused(Refusal::BadRequest, message);
        let value: serde_json::Value = serde_json::from_slice(line)
            .map_err(|err| bad(format!("the request is not a line of JSON: {err}")))?;
        let command = value.get("command").and_then(|command| command.as_str());
        let Some(command) = command else {
            return Err(bad(
                r#"the request has no command; send {"command":"status"}"#.to_owned(),
            ));
        };
        if !COMMANDS.contains(&command) {
            let known = COMMANDS.join(", ");
            let message = format!("{command:?} is no command; there are {known}");
            return Err(Refused(Refusal::UnknownCommand, message));
        }
        let command = command.to_owned();
        serde_json::from_value(value)
            .map_err(|err| bad(format!("the request for {command} cannot be read: {err}")))
    }
}

const COMMANDS: [&str; 5] = ["status", "upgrade", "drain", "cut", "reexec"];

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) Refusal, pub(crate) String);

impl From<Refused> for Event {
    fn from(Refused(kind, message): Refused) -> Self {
        Self::Refused { kind, message }
    }
}

impl Error {
    /// What kind of failure of an upgrade this is.
    pub(crate) fn failure(&self) -> Failure {
        match self.kind() {
            Kind::Spawn => Failure::Spawn,
            Kind::Failed | Kind::Channel => Failure::Ended,
            Kind::TimedOut => Failure::TimedOut,
            Kind::Draining => Failure::Stopped,
            _ => Failure::Other,
        }
    }

    /// Why an upgrade is refused.
    pub(crate) fn refusal(&self) -> Refusal {
        match self.kind() {
            Kind::Stale => Refusal::Stale,
            Kind::InProgress => Refusal::InProgress,
            Kind::NotReady => Refusal::NotReady,
            Kind::Draining => Refusal::Draining,
            _ => Refusal::Other,
        }
    }
}

/// A line that is no [`Event`].
///
/// # Examples
///
/// ```
/// use handover::control::{Event, InvalidEvent};
///
/// let wrong: InvalidEvent = Event::from_line("event: serving").unwrap_err();
/// println!("{wrong}");
/// // What a later release says is none.
/// assert_eq!(Event::from_line(r#"{"event":"celebrating"}"#), Ok(Event::Unknown));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEvent(String);

impl fmt::Display for InvalidEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the line is no event: {}", self.0)
    }
}

impl std::error::Error for InvalidEvent {}

#[cfg(test)]
mod tests;
