//! Snapshots as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use handover::{Graceful, Reached};
use http_body::Frame;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::snapshot::Snapshots;

/// How often there is a new one.
const EVERY: Duration = Duration::from_secs(1);
/// After how long a browser whose stream has ended connects again.
const RETRY: Duration = Duration::from_millis(500);

struct Events {
    snapshots: Arc<Snapshots>,
    ticks: Interval,
    over: Reached,
    begun: bool,
}

/// Ends when the successor answers, to which a browser then connects.
pub(crate) fn events(
    snapshots: Arc<Snapshots>,
    graceful: &Graceful,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static {
    let mut ticks = interval(EVERY);
    // Who has slept does not want to see what was meanwhile.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = Events {
        snapshots,
        ticks,
        over: graceful.draining(),
        begun: false,
    };
    stream::unfold(events, async |mut events| {
        tokio::select! {
            biased;
            () = &mut events.over => return None,
            _ = events.ticks.tick() => {}
        }
        let mut text = String::new();
        if !std::mem::replace(&mut events.begun, true) {
            text = format!("retry: {}\n", RETRY.as_millis());
        }
        match events.snapshots.recent() {
            Ok(snapshot) => text += &format!("data: {snapshot}\n\n"),
            Err(error) => {
                tracing::error!(%error, "a snapshot cannot be written as json");
                return None;
            }
        }
        Some((Ok(Frame::data(text.into())), events))
    })
}
