//! When a connection is to be announced, closed, given up: the drain, its age, its limits.
//!
//! One timer serves all limits. It is set to the next thing that may be due, and is not touched by
//! requests: what happened meanwhile is read off the link when it fires.

use std::{
    future::Future,
    pin::Pin,
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
    // Polled once since it was set; then it wakes this task by itself.
    timer_armed: bool,
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
            timer_armed: false,
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
            if !self.timer_armed {
                self.timer_armed = self.timer.as_mut().poll(cx).is_pending();
            }
            // One load while it has not fired.
            if self.timer_armed && !self.timer.is_elapsed() {
                return Poll::Pending;
            }
            let now = Instant::now();
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
                // has been told of yet is off.
                if self.age_at.is_none_or(|at| now < at) {
                    link.closing.store(false, Relaxed);
                    self.close_at = None;
                }
                Some(Wish::Stay)
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
                self.close_within_the_window(link);
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
        let remaining = link.graceful.remaining().unwrap_or_default();
        let window = link.graceful.policy().announce(remaining);
        // Spread, so that the clients do not come back all at once; late in the window, because
        // each closes an idle connection that it may be about to use.
        self.window = jitter(window, 0.8, 1.0);
        self.close_at = Some(now + self.window);
        self.set_timer(now);
    }

    /// The same where there is no drain.
    pub(crate) fn close_after_a_window(&mut self, link: &Link) {
        let now = Instant::now();
        let window = link.graceful.policy().announce(Duration::MAX / 8);
        self.window = jitter(window, 0.8, 1.0);
        self.close_at = Some(now + self.window);
        self.set_timer(now);
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
        self.timer.as_mut().reset(next);
        self.timer_armed = false;
    }
}

/// A random time between two parts of `time`.
fn jitter(time: Duration, from: f64, to: f64) -> Duration {
    time.mul_f64(from + (to - from) * fastrand::f64())
}
