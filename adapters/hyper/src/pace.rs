//! When a connection is to be announced, closed, given up: the drain, its age, its limits.
//!
//! One timer serves all limits. It is set to the next thing that may be due, and is not touched by
//! requests: what happened meanwhile is read off the link when it fires. Nor is it touched for what is
//! due at once, as ten thousand connections are that a drain closes.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::Duration,
};

use handover::{
    Connection, Holder, Kind, Phase, Stays,
    accept::{Departure, Departures, Mover, Parcel},
};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{link::Link, options::Options};

/// How soon to look again at a handshake that is to be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a timer takes at least.
const PAUSE: Duration = Duration::from_millis(1);

/// What the driver of a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Give it to the successor at the next boundary.
    Move,
    /// A successor that should have had it has died: serve on.
    Stay,
    /// Tell the client to go elsewhere, and serve on.
    Announce,
    /// Close as soon as nothing is owed.
    Close,
    /// Drop it now.
    GiveUp,
}

pub(crate) struct Pace {
    holder: Holder,
    timer: Pin<Box<Sleep>>,
    // When to look what is due.
    next: Instant,
    // The timer has been set to that and polled once; then it wakes this task by itself.
    timer_armed: bool,
    // Between a thing that is done and the next: for what is said to go out.
    pause: Duration,
    tick: Duration,
    header_read: Duration,
    idle: Duration,
    age_at: Option<Instant>,
    close_at: Option<Instant>,
    window: Duration,
    give_up_at: Option<Instant>,
    quiet: Quiet,
    departures: Departures,
    leaving: Leaving,
}

/// An idle connection that is to move.
#[derive(Default)]
enum Leaving {
    #[default]
    No,
    /// It waits for its turn, and had sent so many requests then. If it sends one it needs none.
    Waits(u32, Pin<Box<dyn Future<Output = Departure> + Send>>),
    HasTurn(Departure),
}

// Since when nothing was read, and since when a head has been under way, as of the last tick.
struct Quiet {
    reads: u32,
    since: Instant,
    head: Option<(u32, Instant)>,
}

impl Pace {
    pub(crate) fn new(
        holder: Holder,
        connection: &Connection,
        departures: Departures,
        options: &Options<impl Sized>,
    ) -> Self {
        let now = Instant::now();
        // From when it was accepted, by whichever generation.
        let age_at = options
            .age
            .map(|age| connection.since() + jitter(age, 0.9, 1.1));
        let first = age_at.map_or(now + options.tick(), |at| at.min(now + options.tick()));
        Self {
            holder,
            timer: Box::pin(sleep_until(first)),
            next: first,
            timer_armed: false,
            pause: Duration::ZERO,
            tick: options.tick(),
            header_read: options.header_read,
            idle: options.idle,
            age_at,
            close_at: None,
            window: Duration::ZERO,
            give_up_at: None,
            quiet: Quiet {
                reads: 0,
                since: now,
                // A connection owes its first head from the beginning.
                head: Some((0, now)),
            },
            departures,
            leaving: Leaving::No,
        }
    }

    /// Does nothing in the same turn in which it does something else: its peer is told by more than one
    /// message, and each is to go out.
    pub(crate) fn one_by_one(&mut self) {
        self.pause = PAUSE;
    }

    pub(crate) fn into_holder(self) -> Holder {
        self.holder
    }

    /// Gives the connection to the successor; comes back with it if it is ours again. `None` once it
    /// is not: it was taken, or there is no time left in which it could come back.
    pub(crate) async fn give<Io: 'static>(
        &mut self,
        mover: Option<&dyn Mover<Io>>,
        mut parcel: Parcel<Io>,
        link: &Link,
    ) -> Option<Parcel<Io>> {
        if let Leaving::HasTurn(turn) = std::mem::take(&mut self.leaving) {
            parcel.departure = Some(turn);
        }
        let back = match mover.filter(|mover| mover.is_open()) {
            Some(mover) => tokio::select! {
                given = mover.give(parcel) => given.err()?,
                // What is with the successor now may still be taken there.
                () = self.holder.cutting() => {
                    link.stays_for(Stays::Unanswered);
                    return None;
                }
            },
            None => parcel.staying(Stays::NoTaker),
        };
        self.stay(link, back.stays.unwrap_or(Stays::Refused));
        Some(back)
    }

    /// It will not move after all: what else a drain does with it begins now.
    pub(crate) fn stay(&mut self, link: &Link, why: Stays) {
        link.stays_for(why);
        link.stay();
        if self.holder.phase() == Phase::Draining {
            self.close_within_the_window(link);
            self.announce(link);
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, link: &Link) -> Poll<Wish> {
        while let Poll::Ready(phase) = self.holder.poll_phase(cx) {
            if let Some(wish) = self.on_phase(phase, link) {
                return Poll::Ready(wish);
            }
        }
        if self.poll_turn(cx, link).is_ready() {
            return Poll::Ready(Wish::Move);
        }
        loop {
            // One load while it has not fired.
            if self.timer_armed && !self.timer.is_elapsed() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if self.next > now {
                self.arm_timer(cx);
                continue;
            }
            let wish = self.due(now, link);
            self.set_timer(now);
            if let Some(wish) = wish {
                return Poll::Ready(wish);
            }
        }
    }

    /// Whether its client has asked for something while it waited for its turn to leave.
    pub(crate) fn needs_no_turn(&self, link: &Link) -> bool {
        let Leaving::Waits(requests, _) = &self.leaving else {
            return false;
        };
        let is_idle = link.connection.kind().is_idle();
        !is_idle || link.connection.requests() != *requests
    }

    /// Ready once, when one that waits for its turn may leave.
    fn poll_turn(&mut self, cx: &mut Context<'_>, link: &Link) -> Poll<()> {
        if self.needs_no_turn(link) {
            self.leaving = Leaving::No;
            return Poll::Ready(());
        }
        let Leaving::Waits(_, turn) = &mut self.leaving else {
            return Poll::Pending;
        };
        let turn = std::task::ready!(turn.as_mut().poll(cx));
        self.leaving = Leaving::HasTurn(turn);
        Poll::Ready(())
    }

    fn on_phase(&mut self, phase: Phase, link: &Link) -> Option<Wish> {
        let now = Instant::now();
        self.leaving = Leaving::No;
        let wish = match phase {
            Phase::Running => {
                // At first, or because an upgrade was taken back: an announced close that nobody
                // has been told of yet is off. The timer may fire for it all the same.
                if self.age_at.is_none_or(|at| now < at) {
                    link.closing.store(false, Relaxed);
                    self.close_at = None;
                }
                return Some(Wish::Stay);
            }
            // Aged connections are on their way out already.
            Phase::Draining
                if link.is_movable()
                    && !link.closing.load(Relaxed)
                    && !link.graceful.is_stopping() =>
            {
                // One with a request leaves right after its answer.
                let is_idle = link.connection.kind().is_idle();
                if is_idle {
                    let turn = Box::pin(self.departures.next());
                    self.leaving = Leaving::Waits(link.connection.requests(), turn);
                }
                (!is_idle).then_some(Wish::Move)
            }
            Phase::LameDuck => Some(self.announce(link)),
            Phase::Draining => {
                link.stays_for(link.why_it_stays());
                self.begin_window(now, link);
                Some(self.announce(link))
            }
            _ => {
                if link.is_movable() {
                    link.stays_for(Stays::Busy);
                }
                let grace = link.graceful.policy().cut_grace();
                self.give_up_at = Some(now + grace * 3 / 4);
                self.close_at = Some(now);
                link.closing.store(true, Relaxed);
                Some(Wish::Close)
            }
        };
        self.set_timer(now);
        wish
    }

    pub(crate) fn close_within_the_window(&mut self, link: &Link) {
        let now = Instant::now();
        self.begin_window(now, link);
        self.set_timer(now);
    }

    /// The same where there is no drain.
    pub(crate) fn close_after_a_window(&mut self, link: &Link) {
        let now = Instant::now();
        self.begin_window_of(now, link.graceful.policy().announce(Duration::MAX / 8));
        self.set_timer(now);
    }

    fn begin_window(&mut self, now: Instant, link: &Link) {
        let remaining = link.graceful.remaining().unwrap_or_default();
        self.begin_window_of(now, link.graceful.policy().announce(remaining));
    }

    fn begin_window_of(&mut self, now: Instant, window: Duration) {
        // Spread, so that the clients do not come back all at once; late in the window, because
        // each closes an idle connection that it may be about to use.
        self.window = jitter(window, 0.8, 1.0);
        self.close_at = Some(now + self.window);
    }

    fn announce(&self, link: &Link) -> Wish {
        link.closing.store(true, Relaxed);
        Wish::Announce
    }

    fn due(&mut self, now: Instant, link: &Link) -> Option<Wish> {
        if self.give_up_at.is_some_and(|at| at <= now) {
            return Some(Wish::GiveUp);
        }
        if self.close_at.is_some_and(|at| at <= now) {
            self.close_at = self.close_later(now, link);
            if self.close_at.is_none() {
                return Some(Wish::Close);
            }
        }
        if self.age_at.is_some_and(|at| at <= now) {
            self.age_at = None;
            self.close_after_a_window(link);
            return Some(self.announce(link));
        }
        self.check_limits(now, link)
    }

    /// When to close a connection whose window is over, if not now: one whose client could not ask
    /// anything yet has a window of its own, from the end of its TLS handshake on. That has a limit.
    fn close_later(&self, now: Instant, link: &Link) -> Option<Instant> {
        let connection = &link.connection;
        match connection.kind() {
            _ if self.holder.phase() >= Phase::Cutting => None,
            Kind::Handshake => Some(now + LOOK_AGAIN),
            Kind::Fresh => {
                let later = connection.shook_hands()? + self.window;
                (later > now).then_some(later)
            }
            _ => None,
        }
    }

    fn check_limits(&mut self, now: Instant, link: &Link) -> Option<Wish> {
        let requests = link.connection.requests();
        let reads = link.reads();
        if reads != self.quiet.reads {
            self.quiet.reads = reads;
            self.quiet.since = now;
        }
        if !link.is_quiet() {
            self.quiet.since = now;
            self.quiet.head = None;
            return None;
        }
        let owes_a_head = link.has_half_a_head() || link.connection.kind() == Kind::Fresh;
        match self.quiet.head {
            // The same head as at an earlier look, however many bytes have trickled in since.
            Some((of, since)) if owes_a_head && of == requests => {
                return (now - since >= self.header_read).then_some(Wish::GiveUp);
            }
            _ if owes_a_head => self.quiet.head = Some((requests, now)),
            _ => self.quiet.head = None,
        }
        (now - self.quiet.since >= self.idle).then_some(Wish::Close)
    }

    fn set_timer(&mut self, now: Instant) {
        let others = [self.age_at, self.close_at, self.give_up_at];
        let next = others
            .into_iter()
            .flatten()
            .fold(now + self.tick, Instant::min);
        self.next = next.max(now + self.pause);
        self.timer_armed = false;
    }

    fn arm_timer(&mut self, cx: &mut Context<'_>) {
        if self.timer.deadline() != self.next || self.timer.is_elapsed() {
            self.timer.as_mut().reset(self.next);
        }
        // Unconstrained: a task that has used up its turn is told "pending" by a timer that does not
        // know of it.
        let timer = tokio::task::unconstrained(self.timer.as_mut());
        self.timer_armed = pin!(timer).poll(cx).is_pending();
    }
}

/// A random time between two parts of `time`.
fn jitter(time: Duration, from: f64, to: f64) -> Duration {
    time.mul_f64(from + (to - from) * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc};

    use handover::{Address, Graceful, Policy};
    use tokio::{task::coop, time::timeout};

    use super::*;

    fn begun(graceful: &Graceful) -> (Pace, Arc<Link>) {
        let connection = Connection::new(Address::Unix(None));
        let holder = connection.hold(graceful).unwrap();
        let link = Link::new(connection, graceful.clone(), Some(Stays::Listener));
        let options = Options::new(hyper_util::rt::TokioExecutor::new());
        let departures = Departures::default();
        let pace = Pace::new(holder, &link.connection, departures, &options);
        (pace, link)
    }

    /// What is wished in one turn of the task.
    fn turn(pace: &mut Pace, link: &Link, cx: &mut Context<'_>) -> Vec<Wish> {
        let mut all = Vec::new();
        while let Poll::Ready(wish) = pace.poll(cx, link) {
            all.push(wish);
        }
        all
    }

    async fn one_turn(pace: &mut Pace, link: &Link) -> Vec<Wish> {
        poll_fn(|cx| Poll::Ready(turn(pace, link, cx))).await
    }

    fn without_a_window() -> Graceful {
        Graceful::with_policy(Policy::default().with_announce(Duration::ZERO))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_at_once_waits_for_no_timer() {
        let graceful = without_a_window();
        let (mut pace, link) = begun(&graceful);
        assert_eq!(one_turn(&mut pace, &link).await, [Wish::Stay]);
        graceful.drain();
        let wishes = one_turn(&mut pace, &link).await;
        assert_eq!(wishes, [Wish::Announce, Wish::Close]);
        assert_eq!(one_turn(&mut pace, &link).await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn where_more_is_said_one_thing_is_done_in_a_turn() {
        let graceful = without_a_window();
        let (mut pace, link) = begun(&graceful);
        pace.one_by_one();
        assert_eq!(one_turn(&mut pace, &link).await, [Wish::Stay]);
        graceful.drain();
        assert_eq!(one_turn(&mut pace, &link).await, [Wish::Announce]);
        let close = timeout(PAUSE * 2, poll_fn(|cx| pace.poll(cx, &link)));
        assert_eq!(close.await, Ok(Wish::Close));
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_wakes_a_task_that_had_used_up_its_turn() {
        let (mut pace, link) = begun(&Graceful::new());
        let mut uses_up = true;
        let given_up = poll_fn(|cx| {
            while uses_up && coop::has_budget_remaining() {
                let _ = coop::poll_proceed(cx).map(|used| used.made_progress());
            }
            uses_up = false;
            match turn(&mut pace, &link, cx).pop() {
                Some(Wish::GiveUp) => Poll::Ready(()),
                _ => Poll::Pending,
            }
        });
        let limit = Duration::from_secs(60);
        timeout(limit, given_up).await.expect("it has sent no head");
    }
}
