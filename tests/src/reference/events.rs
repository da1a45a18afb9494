//! `/sse`: server-sent events without end, and a word on when to come back if the server drains.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::{Query, State},
    http::HeaderMap,
    response::sse::{Event, Sse},
};
use futures_util::{Stream, stream};
use handover::Graceful;
use serde::Deserialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::axum_app::Info;

/// Clients come back after a time drawn from this, in milliseconds: not all at once.
const RETRY_MS: std::ops::RangeInclusive<u64> = 1000..=5000;

#[derive(Deserialize)]
pub(crate) struct Pace {
    /// Milliseconds between two events.
    #[serde(default = "second")]
    ms: u64,
}

fn second() -> u64 {
    1000
}

struct Feed {
    next: u64,
    tick: Interval,
    pid: u32,
    graceful: Graceful,
    ended: bool,
}

pub(crate) async fn events(
    State(info): State<Info>,
    graceful: Option<Extension<Graceful>>,
    Query(pace): Query<Pace>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let last = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let mut tick = interval(Duration::from_millis(pace.ms.max(1)));
    // A client that was slow is not sent a burst.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let feed = Feed {
        next: last.map_or(0, |last| last.saturating_add(1)),
        tick,
        pid: info.pid,
        graceful: graceful.map_or_else(Graceful::new, |Extension(graceful)| graceful),
        ended: false,
    };
    Sse::new(stream::unfold(feed, |mut feed| async {
        let event = feed.next().await?;
        Some((Ok(event), feed))
    }))
}

impl Feed {
    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        tokio::select! {
            biased;
            () = self.graceful.draining() => {
                self.ended = true;
                let retry = Duration::from_millis(fastrand::u64(RETRY_MS));
                Some(Event::default().retry(retry).comment("draining"))
            }
            _ = self.tick.tick() => {
                let id = self.next;
                self.next += 1;
                Some(Event::default().id(id.to_string()).data(self.pid.to_string()))
            }
        }
    }
}
