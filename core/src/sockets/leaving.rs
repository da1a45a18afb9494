//! The last steps of a listener that the successor does not have.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::held::Held;

/// Where a listener is on its way out.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// The upgrade that this is about: until when the socket is heard.
    until: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    deaf: bool,
    over: bool,
}

impl Leaving {
    /// Returns true if there is nothing to be taken, or no longer.
    pub(super) fn is_over(&mut self, held: &Held) -> bool {
        let until = held.left();
        if self.until != until {
            *self = Self {
                until,
                ..Self::default()
            };
        }
        self.over || until.is_none()
    }

    /// To be polled whenever nothing is in the queue. Ready with false where the queue is to be
    /// looked at once more, and with true at the end.
    pub(super) fn poll(&mut self, held: &Held, cx: &mut Context<'_>) -> Poll<bool> {
        let until = self.until.unwrap_or_else(Instant::now);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(sleep.as_mut().poll(cx));
        if self.deaf {
            self.over = true;
            return Poll::Ready(true);
        }
        self.deaf = true;
        let still = held.deafen().unwrap_or_else(|err| {
            tracing::debug!(socket = %held.record.name, %err, "cannot be made deaf");
            Duration::ZERO
        });
        sleep.as_mut().reset(Instant::now() + still);
        Poll::Ready(false)
    }
}
