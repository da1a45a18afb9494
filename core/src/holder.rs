//! What holds a drain open, in words.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{Deserialize, Serialize, Serializer};
use tokio::time::Instant;

/// What a holder is doing.
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
/// Its text is for a log line: `GET /export 10.0.0.3:51234, 71.0 s`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Holding {
    /// What it was doing.
    pub kind: Kind,
    /// The request's method and path, or the task's name. A long path is cut short.
    pub what: Option<String>,
    /// The peer, for a connection.
    pub peer: Option<String>,
    /// For how long it had held.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
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
        write!(f, ", {:.1} s", self.age.as_secs_f64())
    }
}

/// A duration as a number of seconds.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

/// What can say what it is. Asked from any thread, so it reads shared data only.
pub(crate) trait Describe: Send + Sync {
    fn describe(&self) -> Holding;
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
            kind: self.kind,
            what: Some(self.name.clone().into_owned()),
            peer: None,
            age: self.since.elapsed(),
        }
    }
}
