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

use tokio::time::{Instant, sleep_until};

use super::Turns;
use crate::{Graceful, Phase, Phases, drain::Drain};

/// Tells when it is time for one client to be told to go, in a drain that many clients have to be
/// told of. Made by [`Graceful::turn`].
///
/// For what has no end of its own, and whose client connects again at once: WebSockets, event
/// streams, long polls. The turns of one service are spread over a window
/// ([`Policy::with_close_spread`](crate::Policy::with_close_spread)), the least recently
/// [active](Self::touch) first, and at the cut it is everybody's turn. A client that goes by itself
/// before has had no turn: just drop it.
///
/// The turns of a request's own token come no earlier than its connection's client has been told to go
/// elsewhere, where the [loop says so](crate::Announcer): before that it would come back on the same
/// connection.
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
    group: Group,
    key: usize,
    active: Arc<AtomicU64>,
    phases: Phases,
    phase: Phase,
    wait: Option<Wait>,
}

/// Which clients stand in one order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Those that are told by an end.
    Close,
    /// Those that are told and go on being served: a lame duck can do that already.
    Announce,
}

impl Group {
    fn turns(self, drain: &Drain) -> &Turns {
        match self {
            Self::Close => &drain.turns,
            Self::Announce => &drain.announces,
        }
    }
}

struct Wait {
    time: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    at: Instant,
    // It was late, and this is its second time.
    is_kept: bool,
    round: (u64, Phase),
    came: bool,
}

impl Turn {
    pub(crate) fn new(graceful: &Graceful) -> Self {
        Self::of(Group::Close, graceful)
    }

    pub(crate) fn announce(graceful: &Graceful) -> Self {
        Self::of(Group::Announce, graceful)
    }

    fn of(group: Group, graceful: &Graceful) -> Self {
        let (key, active) = group.turns(graceful.drain_ref()).join();
        Self {
            graceful: graceful.clone(),
            group,
            key,
            active,
            phases: graceful.phases(),
            phase: Phase::Running,
            wait: None,
        }
    }

    /// Says that the client has just been active. Costs a look at the clock and a store.
    pub fn touch(&self) {
        let now = self.turns().now();
        self.active.store(now, Ordering::Relaxed);
    }

    /// Whether it has come, for who does not wait for it.
    pub(crate) fn has_come(&mut self) -> bool {
        let phase = self.graceful.phase();
        match phase {
            Phase::Running | Phase::LameDuck => return false,
            Phase::Draining if !self.settle(phase) => return false,
            _ => {}
        }
        let is_cut = phase >= Phase::Cutting;
        let is_due = self.wait.as_ref().is_some_and(|wait| {
            wait.came || wait.at <= Instant::now() && self.graceful.is_told_to_go()
        });
        let comes = is_cut || is_due && self.is_admitted();
        if comes {
            self.come();
        }
        comes
    }

    /// Says that the client was told and has not answered.
    pub(crate) fn count_unanswered(&self) {
        if let Some(wait) = &self.wait {
            self.turns().count_unanswered(wait.round);
        }
    }

    /// Learns its time in this phase of the drain under way. False if that has just been taken back:
    /// then the phase changes.
    fn settle(&mut self, phase: Phase) -> bool {
        let drain = self.graceful.drain_ref();
        let Some((number, deadline)) = drain.under_way() else {
            return false;
        };
        let round = (number, phase);
        if self.wait.as_ref().is_none_or(|wait| wait.round != round) {
            let turns = self.group.turns(drain);
            let at = turns.time(self.key, &drain.policy, round, deadline);
            self.wait = Some(Wait {
                time: wait_until(at, &self.graceful),
                at,
                is_kept: false,
                round,
                came: false,
            });
        }
        true
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
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::future::poll_fn;
    ///
    /// let graceful = handover::Graceful::new();
    /// let mut turn = graceful.turn();
    /// let _guard = graceful.guard();
    /// graceful.drain();
    /// poll_fn(|cx| turn.poll(cx)).await;
    /// # }
    /// ```
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(phase) = self.phases.poll_next(cx) {
            self.phase = phase;
        }
        let waits = match self.phase {
            Phase::LameDuck => self.group == Group::Announce,
            phase => phase == Phase::Draining,
        };
        if waits {
            if !self.settle(self.phase) {
                return Poll::Pending;
            }
            while let Some(wait) = &mut self.wait
                && !wait.came
            {
                ready!(wait.time.as_mut().poll(cx));
                if self.is_admitted() {
                    break;
                }
            }
        } else if self.phase < Phase::Cutting {
            self.wait = None;
            return Poll::Pending;
        }
        self.come();
        Poll::Ready(())
    }

    /// Whether it may come now, when its time has come. If not it is given another one.
    fn is_admitted(&mut self) -> bool {
        let turns = self.group.turns(self.graceful.drain_ref());
        let Some(wait) = self.wait.as_mut().filter(|wait| !wait.came) else {
            return true;
        };
        let Some(later) = turns.admit(wait.round, wait.at, wait.is_kept) else {
            return true;
        };
        (wait.at, wait.is_kept) = (later, true);
        wait.time = wait_until(later, &self.graceful);
        false
    }

    fn come(&mut self) {
        if let Some(wait) = &mut self.wait
            && !std::mem::replace(&mut wait.came, true)
        {
            let round = wait.round;
            self.turns().count(round);
        }
    }

    fn turns(&self) -> &Turns {
        self.group.turns(self.graceful.drain_ref())
    }
}

/// Ends at this time, and not before the client has been told.
fn wait_until(
    time: Instant,
    graceful: &Graceful,
) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
    match graceful.told_to_go() {
        Some(announced) => Box::pin(async move {
            sleep_until(time).await;
            announced.await;
        }),
        None => Box::pin(sleep_until(time)),
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns().leave(self.key);
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("came", &self.wait.as_ref().is_some_and(|wait| wait.came))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use crate::{Graceful, Reason, sync::lock};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_is_told_when_asked_after_its_time() {
        let graceful = Graceful::builder().lame_duck(SECOND).build();
        let _guard = graceful.guard();
        let mut turn = graceful.turn();
        assert!(!turn.has_come());
        graceful.drain();
        assert!(!turn.has_come(), "a lame duck serves");
        graceful.draining().await;
        assert!(!turn.has_come(), "its slot has just begun");
        sleep(SECOND).await;
        assert!(turn.has_come());
        assert!(turn.has_come(), "and it stays so");
        turn.count_unanswered();
        let came_to = graceful.drain_ref().turns.reconnects(1);
        assert_eq!((came_to.told, came_to.unanswered), (1, 1));
        let mut asked_at_the_cut = graceful.turn();
        graceful.cut();
        assert!(asked_at_the_cut.has_come());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_came_is_taken_back_with_its_drain() {
        let graceful = Graceful::new();
        let _guard = graceful.guard();
        let mut turn = graceful.turn();
        graceful.drain_for(Reason::Upgrade { successor: 7 });
        assert!(!turn.has_come());
        sleep(SECOND).await;
        assert!(turn.has_come());
        assert!(graceful.resume());
        assert!(!turn.has_come());
    }

    #[tokio::test(start_paused = true)]
    async fn no_turn_has_come_before_its_connection_was_told() {
        let graceful = Graceful::new();
        let _guard = graceful.guard();
        let (token, mut announcer) = graceful.connection();
        let mut turn = token.turn();
        graceful.drain();
        assert!(!turn.has_come());
        sleep(SECOND).await;
        assert!(!turn.has_come());
        announcer.tell();
        assert!(turn.has_come());
    }

    #[test]
    fn a_turn_that_is_dropped_gives_up_its_place() {
        let graceful = Graceful::new();
        let turn = graceful.turn();
        let places = || lock(&graceful.drain_ref().turns.state).members.len();
        assert_eq!(places(), 1);
        drop(turn);
        assert_eq!(places(), 0);
    }
}
