//! One client's turn.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{Graceful, Phase, Phases};

/// Tells when it is time for one client to be told to go, in a drain that many clients have to be
/// told of. Made by [`Graceful::turn`].
///
/// For what has no end of its own, and whose client connects again at once: WebSockets, event
/// streams, long polls. The turns of one service are spread over a window
/// ([`Policy::with_close_spread`](crate::Policy::with_close_spread)), the least recently
/// [active](Self::touch) first, and at the cut it is everybody's turn. A client that goes by itself
/// before has had no turn: just drop it.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use handover::Graceful;
///
/// async fn ticker(graceful: Graceful) -> u32 {
///     let mut turn = graceful.turn();
///     let mut sent = 0;
///     loop {
///         tokio::select! {
///             () = turn.comes() => return sent, // say goodbye here
///             () = tokio::task::yield_now() => {
///                 sent += 1;
///                 turn.touch();
/// #               if sent == 3 { graceful.drain() }
///             }
///         }
///     }
/// }
///
/// assert!(ticker(Graceful::new()).await >= 3);
/// # }
/// ```
#[must_use = "a client whose turn is dropped is not told"]
pub struct Turn {
    graceful: Graceful,
    key: usize,
    active: Arc<AtomicU64>,
    phases: Phases,
    phase: Phase,
    wait: Option<Wait>,
}

struct Wait {
    sleep: Pin<Box<Sleep>>,
    drain: u64,
    came: bool,
}

impl Turn {
    pub(crate) fn new(graceful: &Graceful) -> Self {
        let (key, active) = graceful.drain_ref().turns.join();
        Self {
            graceful: graceful.clone(),
            key,
            active,
            phases: graceful.phases(),
            phase: Phase::Running,
            wait: None,
        }
    }

    /// Says that the client has just been active. Costs a look at the clock and a store.
    pub fn touch(&self) {
        let now = self.graceful.drain_ref().turns.now();
        self.active.store(now, Ordering::Relaxed);
    }

    /// Whether it has come, for who does not wait for it.
    pub(crate) fn has_come(&mut self) -> bool {
        match self.graceful.phase() {
            Phase::Running | Phase::LameDuck => return false,
            Phase::Draining => self.settle(),
            _ => {}
        }
        let is_cut = self.graceful.phase() >= Phase::Cutting;
        match &mut self.wait {
            Some(wait) if is_cut || wait.came || wait.sleep.deadline() <= Instant::now() => {
                wait.come(&self.graceful);
                true
            }
            _ => is_cut,
        }
    }

    /// Says that the client was told and has not answered.
    pub(crate) fn count_unanswered(&self) {
        if let Some(wait) = &self.wait {
            let turns = &self.graceful.drain_ref().turns;
            turns.count_unanswered(wait.drain);
        }
    }

    /// Learns its time in the drain under way. Nothing if that has just been taken back: then the
    /// phase changes.
    fn settle(&mut self) {
        let drain = self.graceful.drain_ref();
        let Some((number, deadline)) = drain.under_way() else {
            return;
        };
        if self.wait.as_ref().is_none_or(|wait| wait.drain != number) {
            let time = drain.turns.time(self.key, &drain.policy, number, deadline);
            self.wait = Some(Wait {
                sleep: Box::pin(sleep_until(time)),
                drain: number,
                came: false,
            });
        }
    }

    /// Ends when it is time to tell the client; from then on at once, until a drain is taken back.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with a timer, once a drain has begun.
    pub async fn comes(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    /// What [`comes`](Self::comes) awaits.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(phase) = self.phases.poll_next(cx) {
            self.phase = phase;
            match phase {
                Phase::Running | Phase::LameDuck => self.wait = None,
                Phase::Draining => self.settle(),
                _ => {}
            }
        }
        let wait = match (self.phase, &mut self.wait) {
            (Phase::Running | Phase::LameDuck, _) | (Phase::Draining, None) => {
                return Poll::Pending;
            }
            (Phase::Draining, Some(wait)) => {
                if !wait.came {
                    ready!(wait.sleep.as_mut().poll(cx));
                }
                Some(wait)
            }
            (_, wait) => wait.as_mut(),
        };
        if let Some(wait) = wait {
            wait.come(&self.graceful);
        }
        Poll::Ready(())
    }
}

impl Wait {
    fn come(&mut self, graceful: &Graceful) {
        if !std::mem::replace(&mut self.came, true) {
            graceful.drain_ref().turns.count(self.drain);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.graceful.drain_ref().turns.leave(self.key);
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("came", &self.wait.as_ref().is_some_and(|wait| wait.came))
            .finish_non_exhaustive()
    }
}
