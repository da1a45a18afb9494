//! How hard, for how long, and with what.

use std::time::Duration;

use super::{Kind, Target};

/// How many clients of each kind a storm has.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Clients {
    /// Busy persistent connections.
    pub keepalive: usize,
    /// Persistent connections with pauses.
    pub idle: usize,
    /// Clients that connect for each request.
    pub fresh: usize,
    /// Persistent connections with heads in three pieces.
    pub dribble: usize,
    /// Clients of `/slow`.
    pub slow: usize,
    /// Clients of `/stream`.
    pub stream: usize,
    /// Clients of `/upload`.
    pub upload: usize,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            keepalive: 16,
            idle: 48,
            fresh: 8,
            dribble: 8,
            slow: 4,
            stream: 2,
            upload: 2,
        }
    }
}

impl Clients {
    /// No clients at all, to build on.
    #[must_use]
    pub fn none() -> Self {
        Self {
            keepalive: 0,
            idle: 0,
            fresh: 0,
            dribble: 0,
            slow: 0,
            stream: 0,
            upload: 0,
        }
    }

    /// `count` clients of one kind.
    #[must_use]
    pub fn only(kind: Kind, count: usize) -> Self {
        let mut clients = Self::none();
        *clients.of_mut(kind) = count;
        clients
    }

    /// The usual mix with `count` persistent connections, of which three in four are idle.
    #[must_use]
    pub fn persistent(count: usize) -> Self {
        let keepalive = count.div_ceil(4);
        Self {
            keepalive,
            idle: count - keepalive,
            ..Self::default()
        }
    }

    /// How many there are of `kind`.
    #[must_use]
    pub fn of(&self, kind: Kind) -> usize {
        let mut clients = *self;
        *clients.of_mut(kind)
    }

    /// Counts one client of `kind` less.
    pub(crate) fn leave(&mut self, kind: Kind) {
        let count = self.of_mut(kind);
        *count = count.saturating_sub(1);
    }

    fn of_mut(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Keepalive => &mut self.keepalive,
            Kind::Idle => &mut self.idle,
            Kind::Fresh => &mut self.fresh,
            Kind::Dribble => &mut self.dribble,
            Kind::Slow => &mut self.slow,
            Kind::Stream => &mut self.stream,
            Kind::Upload => &mut self.upload,
        }
    }
}

/// A storm's settings. [`new`](Self::new) gives the usual ones; change the fields that matter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The server.
    pub target: Target,
    /// How many clients of each kind.
    pub clients: Clients,
    /// What passes between the last look at a connection and the first byte of the request, and
    /// between `connect` and that byte. None by default.
    pub rtt: Duration,
    /// The time limit of a request, beyond what its own work takes. 10 s by default.
    pub timeout: Duration,
    /// Pause between two requests of a `keepalive` client. 1 ms by default, so that a few of them
    /// do not take a small machine for themselves.
    pub keepalive_pause: Duration,
    /// The longest pause of an `idle` client; each is drawn from 20 ms up to this. 500 ms by default.
    pub idle_max: Duration,
    /// Pause between two requests of a `fresh` client. 2 ms by default.
    pub fresh_pause: Duration,
    /// Pause between the pieces of a `dribble` client's head. 100 ms by default.
    pub dribble_pause: Duration,
    /// How long a `slow` answer takes. 1500 ms by default.
    pub slow: Duration,
    /// How long a `stream` answer takes. 2 s by default.
    pub stream: Duration,
    /// Bytes of an upload. 100 KiB by default.
    pub upload_len: usize,
    /// How long an upload takes. 1 s by default.
    pub upload: Duration,
    /// The path of the kinds that ask for the plain page. `/` by default.
    pub path: String,
    /// The path of `slow`, without its query. `/slow` by default.
    pub slow_path: String,
    /// The path of `stream`, without its query. `/stream` by default.
    pub stream_path: String,
    /// The path of `upload`. `/upload` by default.
    pub upload_path: String,
    /// Pause after a lost request, so that a dead server is not hammered. 10 ms by default.
    pub after_loss: Duration,
}

impl Config {
    /// The usual storm against `target`.
    #[must_use]
    pub fn new(target: impl Into<Target>) -> Self {
        Self {
            target: target.into(),
            clients: Clients::default(),
            rtt: Duration::ZERO,
            timeout: Duration::from_secs(10),
            keepalive_pause: Duration::from_millis(1),
            idle_max: Duration::from_millis(500),
            fresh_pause: Duration::from_millis(2),
            dribble_pause: Duration::from_millis(100),
            slow: Duration::from_millis(1500),
            stream: Duration::from_secs(2),
            upload_len: 100 * 1024,
            upload: Duration::from_secs(1),
            path: "/".into(),
            slow_path: "/slow".into(),
            stream_path: "/stream".into(),
            upload_path: "/upload".into(),
            after_loss: Duration::from_millis(10),
        }
    }

    /// The same with other clients.
    #[must_use]
    pub fn with_clients(mut self, clients: Clients) -> Self {
        self.clients = clients;
        self
    }

    /// The time limit of a request of `kind`.
    #[must_use]
    pub fn time_limit(&self, kind: Kind) -> Duration {
        self.timeout
            + match kind {
                Kind::Slow => self.slow,
                // A stream may run at half its pace on a busy machine.
                Kind::Stream => self.stream * 2,
                Kind::Upload => self.upload * 2,
                Kind::Dribble => self.dribble_pause * 2,
                Kind::Keepalive | Kind::Idle | Kind::Fresh => Duration::ZERO,
            }
            + self.rtt
    }
}
