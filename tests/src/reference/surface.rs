//! What the reference servers answer, whatever framework they answer with.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use handover::{Connection, accept::Proxied};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::load::{Fnv1a, stream_byte, stream_len};

/// Bytes of one piece of `/stream`, and the time between two.
const STREAM_CHUNK: u64 = 1024;
const STREAM_EVERY: Duration = Duration::from_millis(50);
/// Nobody waits for longer than this.
const LONGEST: Duration = Duration::from_secs(3600);

/// Who answers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Info {
    /// The process.
    pub pid: u32,
    /// Its generation.
    pub generation: u64,
}

impl Info {
    /// This process, as generation `generation`.
    #[must_use]
    pub fn new(generation: u64) -> Self {
        Self {
            pid: std::process::id(),
            generation,
        }
    }

    /// The body of `/` and `/slow`.
    pub(crate) fn page(self) -> String {
        format!("pid={}\nok\n", self.pid)
    }

    /// The headers of every answer.
    pub(crate) fn headers(self) -> [(&'static str, String); 2] {
        [
            ("x-pid", self.pid.to_string()),
            ("x-generation", self.generation.to_string()),
        ]
    }
}

/// The body of `/peer`: the client, as the framework tells it, and what of a balancer is known.
pub(crate) fn peer(client: Option<SocketAddr>, connection: Option<&Connection>) -> String {
    let client = client.map_or("unknown".to_owned(), |client| client.to_string());
    let socket = connection.map_or("unknown".to_owned(), |c| c.socket_peer().to_string());
    let said = connection.and_then(Connection::proxied);
    let id = said.and_then(Proxied::unique_id).unwrap_or_default();
    let id = String::from_utf8_lossy(id);
    format!("client={client} socket={socket} id={id}\n")
}

/// The query of `/slow`.
#[derive(Deserialize)]
pub(crate) struct Slow {
    #[serde(default)]
    ms: u64,
}

impl Slow {
    pub(crate) async fn wait(self) {
        sleep(Duration::from_millis(self.ms).min(LONGEST)).await;
    }
}

/// The query of `/stream`.
#[derive(Deserialize)]
pub(crate) struct Letters {
    #[serde(default)]
    secs: f64,
}

impl Letters {
    /// What is answered with 400 where there is no stream.
    pub(crate) const WRONG: &str = "secs must be a number of seconds\n";

    /// The pieces; `None` if that is no time.
    pub(crate) fn pieces(
        self,
    ) -> Option<impl Stream<Item = Result<Bytes, Infallible>> + Send + Sync + 'static> {
        let duration = Duration::try_from_secs_f64(self.secs).ok()?;
        let len = stream_len(duration.min(LONGEST));
        let start = Instant::now();
        let pieces = stream::iter((0..len).step_by(STREAM_CHUNK as usize).zip(1_u32..));
        Some(pieces.then(move |(at, nth)| async move {
            // By the clock, not by the pause: a late piece does not delay those after it.
            sleep_until(start + STREAM_EVERY * nth).await;
            Ok(Bytes::from_iter((at..at + STREAM_CHUNK).map(stream_byte)))
        }))
    }
}

/// What has come of an upload.
#[derive(Default)]
pub(crate) struct Upload {
    len: u64,
    hash: Fnv1a,
}

impl Upload {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// The answer to a complete one.
    pub(crate) fn measured(&self) -> String {
        format!("len={} fnv1a={:016x}\n", self.len, self.hash.finish())
    }

    /// The answer, with 400, to one that broke off.
    pub(crate) fn broken(&self, error: &dyn std::fmt::Display) -> String {
        format!("the body ended after {} bytes: {error}\n", self.len)
    }
}

/// The query of `/sse`.
#[derive(Deserialize)]
pub(crate) struct Pace {
    /// Milliseconds between two events.
    #[serde(default = "second")]
    ms: u64,
    /// Bytes of a comment in each, for a client that is not to keep up.
    #[serde(default)]
    padding: usize,
}

impl Pace {
    /// That comment.
    pub(crate) fn padding(&self) -> String {
        "p".repeat(self.padding.min(1 << 20))
    }
}

fn second() -> u64 {
    1000
}

/// The ids of the events of `/sse` after the one that a client has seen last, without end, when they
/// are due.
pub(crate) fn ticks(
    pace: &Pace,
    last: Option<&str>,
) -> impl Stream<Item = u64> + Send + Sync + 'static + use<> {
    let last = last.and_then(|id| id.parse::<u64>().ok());
    let first = last.map_or(0, |last| last.saturating_add(1));
    let mut tick = interval(Duration::from_millis(pace.ms.max(1)));
    // A client that was slow is not sent a burst.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((tick, first), async |(mut tick, id)| {
        tick.tick().await;
        Some((id, (tick, id + 1)))
    })
}
