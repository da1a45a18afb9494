//! The close-spread: clients that come back at once are told to go one after another.
//!
//! A client of a WebSocket, an event stream or a long poll connects again as soon as it is told to
//! go, so telling all at one moment is a storm for whoever serves them next. Each such client has a
//! [`Turn`]. When the drain begins their order is settled, the least recently active first, and
//! each has a [slot](schedule) of the window; those that end by themselves before go when they like.
//!
//! Connections that are told and go on being served stand in an order of their own
//! ([`Announcer`]): all of them are told before the first idle one is closed.
//!
//! # Invariants
//!
//! 1. Within one drain each turn is given one time, and keeps it; but a connection that its lame duck
//!    has not told is given another one for what follows, and so is one whose time has passed while
//!    the process stood still: in no second are more told than in any other.
//! 2. A drain that is taken back, and one that follows it, are two: turns that have come in the
//!    first are given a new time in the second.
//! 3. At the cut it is everybody's turn.
//! 4. No turn of a connection's own token comes before that connection was told, the cut apart.

mod announcer;
#[cfg(all(test, not(miri)))]
mod properties;
mod schedule;
mod turn;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use slab::Slab;
use tokio::time::Instant;

pub(crate) use self::announcer::Told;
use self::schedule::Schedule;
pub use self::{announcer::Announcer, turn::Turn};
use crate::{Phase, Policy, sync::lock};

/// How clients were told to go, and come back: see [`Turn`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use handover::Graceful;
///
/// let graceful = Graceful::new();
/// let mut turns = [graceful.turn(), graceful.turn()];
/// let guard = graceful.guard();
/// graceful.drain();
/// for turn in &mut turns {
///     turn.comes().await;
/// }
/// drop((turns, guard));
/// let reconnects = graceful.drained().await.reconnects;
/// println!("{} told, {} in one second", reconnects.told, reconnects.peak_per_second);
/// assert_eq!(reconnects.unanswered, 0);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Reconnects {
    /// Clients that were told to go.
    pub told: usize,
    /// The most that were to be told in one second, and so are expected to come back in one.
    pub expected_per_second: f64,
    /// The most that were told in one second.
    pub peak_per_second: usize,
    /// Clients of WebSockets that were told, and had not answered in the time that they had.
    pub unanswered: usize,
}

/// How long it takes to tell so many clients when so much time is left until the deadline.
type Window = fn(&Policy, usize, Duration) -> Duration;

/// All turns of a service that stand in one order.
#[derive(Debug)]
pub(crate) struct Turns {
    since: Instant,
    window: Window,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    members: Slab<Member>,
    round: Option<Round>,
}

#[derive(Debug)]
struct Member {
    /// When it was last active, in milliseconds.
    active: Arc<AtomicU64>,
    /// Its time in this round; a new round gives all another.
    time: Option<Instant>,
}

/// The turns of one drain: its number, and where it stood.
#[derive(Debug)]
struct Round {
    of: (u64, Phase),
    schedule: Schedule,
    told: usize,
    second: u64,
    in_second: usize,
    peak: usize,
    unanswered: usize,
}

impl Turns {
    pub(crate) fn new(window: Window) -> Self {
        Self {
            since: Instant::now(),
            window,
            state: Mutex::default(),
        }
    }

    /// Adds a client, active now.
    fn join(&self) -> (usize, Arc<AtomicU64>) {
        let active = Arc::new(AtomicU64::new(self.now()));
        let member = Member {
            active: Arc::clone(&active),
            time: None,
        };
        (lock(&self.state).members.insert(member), active)
    }

    fn leave(&self, key: usize) {
        lock(&self.state).members.remove(key);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When it is this client's turn in this round.
    fn time(&self, key: usize, policy: &Policy, of: (u64, Phase), deadline: Instant) -> Instant {
        let state = &mut *lock(&self.state);
        let members = &mut state.members;
        let round = match &mut state.round {
            Some(round) if round.of == of => round,
            old => {
                let start = Instant::now();
                let remaining = deadline.saturating_duration_since(start);
                let window = (self.window)(policy, members.len(), remaining);
                old.insert(Round::begin(members, start, window, usable(remaining), of))
            }
        };
        // None: it came after the order was settled.
        let late = || round.schedule.next_after(Instant::now());
        *members[key].time.get_or_insert_with(late)
    }

    /// Whether one whose time it was may be told now; if not, its new time.
    fn admit(&self, of: (u64, Phase), time: Instant, is_kept: bool) -> Option<Instant> {
        match &mut lock(&self.state).round {
            Some(round) if round.of == of => round.schedule.admit(time, is_kept, Instant::now()),
            _ => None,
        }
    }

    fn count(&self, of: (u64, Phase)) {
        self.in_round(of, Round::count);
    }

    fn count_unanswered(&self, of: (u64, Phase)) {
        self.in_round(of, |round| round.unanswered += 1);
    }

    fn in_round(&self, of: (u64, Phase), act: impl FnOnce(&mut Round)) {
        if let Some(round) = &mut lock(&self.state).round
            && round.of == of
        {
            act(round);
        }
    }

    /// What the drain of this number came to.
    pub(crate) fn reconnects(&self, number: u64) -> Reconnects {
        match &lock(&self.state).round {
            Some(round) if round.of.0 == number => Reconnects {
                told: round.told,
                expected_per_second: round.schedule.rate(),
                peak_per_second: round.peak,
                unanswered: round.unanswered,
            },
            _ => Reconnects::default(),
        }
    }
}

impl Round {
    fn begin(
        members: &mut Slab<Member>,
        start: Instant,
        window: Duration,
        limit: Duration,
        of: (u64, Phase),
    ) -> Self {
        let slot = slot(window, members.len());
        let mut schedule = Schedule::new(start, slot, limit);
        let mut order: Vec<_> = members
            .iter()
            .map(|(key, member)| (member.active.load(Ordering::Relaxed), key))
            .collect();
        order.sort_unstable();
        for (_, key) in order {
            members[key].time = Some(schedule.next());
        }
        tracing::debug!(clients = members.len(), ?window, "clients are told to go");
        Self {
            of,
            schedule,
            told: 0,
            second: 0,
            in_second: 0,
            peak: 0,
            unanswered: 0,
        }
    }

    fn count(&mut self) {
        let second = self.schedule.second(Instant::now());
        if second != self.second {
            (self.second, self.in_second) = (second, 0);
        }
        self.told += 1;
        self.in_second += 1;
        self.peak = self.peak.max(self.in_second);
    }
}

/// Up to this many clients a second are told to go whatever the window.
const UNSPREAD: u32 = 100;

/// The window in which so many clients are told to go: not longer than they need.
pub(crate) fn window(most: Duration, clients: usize, remaining: Duration) -> Duration {
    let needed = Duration::from_secs_f64(clients as f64 / f64::from(UNSPREAD));
    most.min(needed).min(usable(remaining))
}

/// The part of a drain in which clients are told: what is told at the end still has to go.
fn usable(remaining: Duration) -> Duration {
    remaining / 10 * 9
}

/// The time between two clients; where there are none when the drain begins, some may still come.
fn slot(window: Duration, clients: usize) -> Duration {
    match clients {
        0 => Duration::from_secs(1) / UNSPREAD,
        _ => window.div_f64(clients as f64),
    }
}

/// The part of the announce window in which so many connections are told: the rest is theirs.
pub(crate) fn announce(policy: &Policy, clients: usize, remaining: Duration) -> Duration {
    match u32::try_from(clients) {
        // A drain that ends at once need not wait for a spread that nobody would feel.
        Ok(0..=UNSPREAD) => Duration::ZERO,
        _ => window(policy.announce(remaining) / 2, clients, remaining),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_told_is_counted_in_its_round_only() {
        let turns = Turns::new(Policy::close_spread);
        let (key, _active) = turns.join();
        let round = (1, Phase::Draining);
        let deadline = Instant::now() + 25 * SECOND;
        turns.time(key, &Policy::default(), round, deadline);
        for _ in 0..3 {
            turns.count(round);
            turns.count_unanswered(round);
        }
        tokio::time::advance(SECOND).await;
        turns.count(round);
        for other in [(2, Phase::Draining), (1, Phase::LameDuck)] {
            turns.count(other);
            turns.count_unanswered(other);
        }
        let came_to = turns.reconnects(1);
        assert_eq!((came_to.told, came_to.peak_per_second), (4, 3));
        assert_eq!(came_to.unanswered, 3);
        assert_eq!(turns.reconnects(2), Reconnects::default());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_left_takes_no_slot() {
        let turns = Turns::new(Policy::close_spread);
        let keys: Vec<_> = (0..10).map(|_| turns.join().0).collect();
        for key in &keys[1..] {
            turns.leave(*key);
        }
        let start = Instant::now();
        let round = (1, Phase::Draining);
        let policy = Policy::default();
        let time = turns.time(keys[0], &policy, round, start + 25 * SECOND);
        assert!(time - start <= slot(SECOND, 100), "{:?}", time - start);
        assert_eq!(lock(&turns.state).members.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_is_kept_in_its_round_and_given_anew_in_the_next() {
        let turns = Turns::new(Policy::close_spread);
        let keys: Vec<_> = (0..200).map(|_| turns.join().0).collect();
        let policy = Policy::default();
        let deadline = Instant::now() + 25 * SECOND;
        let (first, second) = ((1, Phase::Draining), (2, Phase::Draining));
        let times = |round| {
            keys.iter()
                .map(|key| turns.time(*key, &policy, round, deadline))
                .collect::<Vec<_>>()
        };
        let before = times(first);
        tokio::time::advance(SECOND).await;
        assert_eq!(
            times(first),
            before,
            "it has another time in the same round"
        );
        let after = times(second);
        assert!(
            after.iter().all(|time| *time >= Instant::now()),
            "{after:?}"
        );
        let mut distinct = after.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), keys.len(), "two have one time");
        // Late, one of a round that is over waits for nobody of this one.
        tokio::time::advance(10 * SECOND).await;
        assert_eq!(
            turns.admit(second, after[0], false),
            None,
            "nobody before it"
        );
        assert_eq!(turns.admit(first, before[0], false), None);
        assert!(turns.admit(second, after[1], false).is_some());
    }

    #[test]
    fn without_clients_a_slot_is_that_of_the_fewest() {
        assert_eq!(slot(Duration::ZERO, 0), SECOND / 100);
        assert_eq!(slot(8 * SECOND, 4), 2 * SECOND);
    }
}
