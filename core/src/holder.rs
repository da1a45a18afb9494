//! What holds a drain open, in words.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};
use tokio::time::Instant;

use crate::{seconds, traffic::Traffic};

/// What a holder is doing.
///
/// # Examples
///
/// ```
/// use handover::Kind;
///
/// let idle: Vec<_> = Kind::all().filter(|kind| kind.is_idle()).map(Kind::name).collect();
/// println!("nobody waits for these: {idle:?}");
/// assert!(Kind::Idle.is_idle() && Kind::Idle.is_connection());
/// assert!(Kind::Stream.is_request() && !Kind::Stream.is_connection());
/// assert!(Kind::WebSocket.is_upgraded());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[repr(u8)]
pub enum Kind {
    /// A connection on which nothing has arrived yet.
    Fresh = 0,
    /// A connection between two requests.
    Idle = 1,
    /// A connection on which a part of a request's head has arrived.
    Head = 2,
    /// A connection that serves a request.
    Request = 3,
    /// A connection that has left HTTP: a WebSocket, a tunnel.
    Upgraded = 4,
    /// A request that shares its connection with others (HTTP/2), or whose connection is not
    /// known, because only a layer has seen it.
    Stream = 5,
    /// A background task, by its name.
    Task = 6,
    /// A WebSocket: a connection of its own, or a stream of HTTP/2.
    #[serde(rename = "websocket")]
    WebSocket = 7,
    /// A connection in the middle of a TLS handshake.
    Handshake = 8,
}

impl Kind {
    #[cfg(feature = "accept")]
    #[inline]
    pub(crate) fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Fresh,
            1 => Self::Idle,
            2 => Self::Head,
            3 => Self::Request,
            4 => Self::Upgraded,
            5 => Self::Stream,
            7 => Self::WebSocket,
            8 => Self::Handshake,
            _ => Self::Task,
        }
    }

    /// All there are, connections first, in the order in which one goes through them.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Self::Handshake,
            Self::Fresh,
            Self::Idle,
            Self::Head,
            Self::Request,
            Self::WebSocket,
            Self::Upgraded,
            Self::Stream,
            Self::Task,
        ]
        .into_iter()
    }

    /// Its name in metrics and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Fresh => "fresh",
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Request => "request",
            Self::WebSocket => "websocket",
            Self::Upgraded => "upgraded",
            Self::Stream => "stream",
            Self::Task => "task",
        }
    }

    /// Returns true if ending the holder now would lose nothing that anybody waits for.
    #[must_use]
    pub fn is_idle(self) -> bool {
        matches!(self, Self::Fresh | Self::Idle)
    }

    /// Returns true if the holder is a connection.
    #[must_use]
    pub fn is_connection(self) -> bool {
        !matches!(self, Self::Stream | Self::Task)
    }

    /// Returns true if the holder is a connection that has left HTTP.
    #[must_use]
    pub fn is_upgraded(self) -> bool {
        matches!(self, Self::Upgraded | Self::WebSocket)
    }

    /// Returns true if the holder serves a request.
    #[must_use]
    pub fn is_request(self) -> bool {
        matches!(self, Self::Request | Self::Stream)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh connection",
            Self::Idle => "idle connection",
            Self::Head => "half a request head",
            Self::Request | Self::Stream => "request",
            Self::Upgraded => "upgraded connection",
            Self::Task => "task",
            Self::WebSocket => "WebSocket",
            Self::Handshake => "TLS handshake",
        })
    }
}

/// A holder as it was at one moment.
///
/// Its text is for a log line:
///
/// ```text
/// GET /export 10.0.0.3:51234, 71.0 s, 312 B in, 1.2 MB out, quiet for 30.0 s
/// ```
///
/// # Examples
///
/// ```
/// use handover::{Graceful, Kind};
///
/// let graceful = Graceful::new();
/// let _job = graceful.hold("rebuild index");
/// let holding = &graceful.holders()[0];
/// assert_eq!((holding.kind, holding.what.as_deref()), (Kind::Task, Some("rebuild index")));
/// assert!(holding.peer.is_none() && holding.listener.is_none() && holding.traffic.is_none());
/// println!("waiting for {holding}, for {:?} now", holding.age);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holding {
    /// What it was doing.
    pub kind: Kind,
    /// The request's method and path, or the task's name. A long path is cut short.
    #[serde(default)]
    pub what: Option<String>,
    /// The peer, for a connection.
    #[serde(default)]
    pub peer: Option<String>,
    /// Where it was accepted, for a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// For how long it had held.
    #[serde(rename = "age_seconds", with = "seconds")]
    pub age: Duration,
    /// What has passed over it, for a connection whose server counts that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
}

impl Holding {
    /// Of which nothing more is known.
    pub(crate) fn new(kind: Kind, age: Duration) -> Self {
        Self {
            kind,
            what: None,
            peer: None,
            listener: None,
            age,
            traffic: None,
        }
    }
}

/// Those that are not idle, the oldest first, and no more than so many; and how many more there are.
#[cfg_attr(loom, allow(dead_code, reason = "models have no clock to log by"))]
pub(crate) fn oldest(mut holders: Vec<Holding>, most: usize) -> (Vec<Holding>, usize) {
    holders.retain(|holder| !holder.kind.is_idle());
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.age));
    let more = holders.len().saturating_sub(most);
    holders.truncate(most);
    (holders, more)
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Some(what) if self.kind.is_request() => f.write_str(what)?,
            Some(what) => write!(f, "{} {what}", self.kind)?,
            None => self.kind.fmt(f)?,
        }
        if let Some(peer) = &self.peer {
            write!(f, " {peer}")?;
        }
        write!(f, ", {:.1} s", self.age.as_secs_f64())?;
        match &self.traffic {
            Some(traffic) => write!(f, ", {traffic}"),
            None => Ok(()),
        }
    }
}

/// Reads a list, and leaves out what a later release has a word for.
#[cfg_attr(
    not(all(unix, feature = "process")),
    allow(dead_code, reason = "only generations talk")
)]
pub(crate) fn known<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient<T> {
        Known(T),
        Unknown(serde::de::IgnoredAny),
    }
    let all = Vec::<Lenient<T>>::deserialize(from)?;
    Ok(all
        .into_iter()
        .filter_map(|one| match one {
            Lenient::Known(known) => Some(known),
            Lenient::Unknown(_) => None,
        })
        .collect())
}

/// What can say what it is. Asked from any thread, so it reads shared data only.
pub(crate) trait Describe: Send + Sync {
    fn describe(&self) -> Holding;

    /// The kind alone, for who counts: of ten thousand idle connections nobody reads the words.
    fn kind(&self) -> Kind {
        self.describe().kind
    }
}

/// A holder that is a name and a beginning.
pub(crate) struct Named {
    pub(crate) kind: Kind,
    pub(crate) name: Cow<'static, str>,
    pub(crate) since: Instant,
}

impl Describe for Named {
    fn describe(&self) -> Holding {
        Holding {
            what: Some(self.name.clone().into_owned()),
            ..Holding::new(self.kind, self.since.elapsed())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails if a kind is left out, or has one name here and another one in JSON.
    #[cfg(feature = "accept")]
    #[test]
    fn each_kind_is_there_under_one_name() {
        for number in 0..=u8::MAX {
            assert!(Kind::all().any(|kind| kind == Kind::from_u8(number)));
        }
        for kind in Kind::all() {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(Kind::from_u8(kind as u8), kind);
        }
    }
}
