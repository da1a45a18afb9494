//! What the parts of one connection tell each other: the IO below hyper, the service above it, and
//! the driver that polls hyper between the two.
//!
//! # Invariants
//!
//! 1. Over HTTP/1 all of this runs in the connection's task, but for the end of a request body,
//!    which a handler may read elsewhere. Over HTTP/2 each stream has a task of its own. So the
//!    fields are atomics; they are relaxed, because each is a fact by itself, and whoever changes
//!    one outside the connection's task wakes it. What only HTTP/2 changes elsewhere is counted
//!    without a locked instruction over HTTP/1, and wakes nobody there: the driver looks at it after
//!    each poll of hyper, which is when it changes.
//! 2. A connection is at a *boundary* when hyper has just returned `Pending` and no request is in
//!    flight (its response body has been dropped), the last request's body was read to its end,
//!    and all that was written was flushed since. Then, and only then, nothing is owed either way.
//! 3. A request body that was dropped unread is over once hyper has been polled after that: it then
//!    throws away what is there of it, or closes the connection, which its future tells.
//! 4. An upgraded connection belongs to the application: its holder lives in its IO from then on,
//!    and passes through here for as long as there is an IO to take it, though the link may live on in
//!    the bodies of its requests.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{
        AtomicBool, AtomicU8, AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use atomic_waker::AtomicWaker;
use handover::{Connection, Graceful, Holder, Kind, Phase, Stays, layer};
use http::{Response, Version};

/// In place of the number of a body.
pub(crate) const NO_BODY: u32 = 0;

/// A hand-over is wanted: nothing new is read, so that a boundary comes soon.
const HOLDS_READS: u8 = 1;
/// It has left HTTP, and its holder has been put down for its IO.
const HAS_LEFT: u8 = 2;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Arc<Connection>,
    pub(crate) graceful: Graceful,
    // What requests are given, if not that; see `told`.
    told: OnceLock<Graceful>,
    // Given to the successor in an upgrade, and so not announced.
    movable: AtomicBool,
    // Why it never is.
    immovable: Option<Stays>,
    // The report of the drain under way has it among those that are not moved.
    stayed: AtomicBool,
    /// The next answer is to carry `Connection: close`.
    pub(crate) closing: AtomicBool,
    in_flight: AtomicU32,
    // Counts request bodies.
    bodies: AtomicU32,
    // The number of the body of the last request, until it has been read to its end.
    body_open: AtomicU32,
    // The number of a body that was dropped before that, if hyper has not been polled since.
    body_abandoned: AtomicU32,
    // Written and not flushed.
    unflushed: AtomicBool,
    // Read, and no request has come of it yet.
    head_begun: AtomicBool,
    // Counts reads, so that quiet can be told from slow.
    reads: AtomicU32,
    tunnels: AtomicBool,
    // The end of an answer may be that of the connection: its client speaks HTTP/1.0.
    ends_answers: AtomicBool,
    // Of `HOLDS_READS` and `HAS_LEFT`; nearly always 0, which the IO asks first.
    detours: AtomicU8,
    // HTTP/2: heads and answers are the streams' affair, which list themselves.
    shared: AtomicBool,
    upgraded: Mutex<Option<Holder>>,
    // Somebody is there to take that; changed under its lock.
    has_io: AtomicBool,
    driver: AtomicWaker,
}

impl Link {
    pub(crate) fn new(
        connection: Arc<Connection>,
        graceful: Graceful,
        immovable: Option<Stays>,
    ) -> Arc<Self> {
        Arc::new(Self {
            connection,
            graceful,
            told: OnceLock::new(),
            movable: AtomicBool::new(immovable.is_none()),
            immovable,
            stayed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            bodies: AtomicU32::new(0),
            body_open: AtomicU32::new(NO_BODY),
            body_abandoned: AtomicU32::new(NO_BODY),
            unflushed: AtomicBool::new(false),
            head_begun: AtomicBool::new(false),
            reads: AtomicU32::new(0),
            tunnels: AtomicBool::new(false),
            ends_answers: AtomicBool::new(false),
            detours: AtomicU8::new(0),
            shared: AtomicBool::new(false),
            upgraded: Mutex::new(None),
            has_io: AtomicBool::new(false),
            driver: AtomicWaker::new(),
        })
    }

    // ===== asked by the IO =====

    /// Nothing is to be asked before a read but what was replayed: the common case, by one load.
    #[inline]
    pub(crate) fn reads_freely(&self) -> bool {
        self.detours.load(Acquire) == 0
    }

    /// Reads are held back, save for what a request under way still has to receive.
    pub(crate) fn holds_reads(&self) -> bool {
        self.detours.load(Relaxed) & HOLDS_READS != 0 && self.body_open.load(Relaxed) == NO_BODY
    }

    // ===== told by the IO =====

    #[inline]
    pub(crate) fn has_read(&self) {
        self.reads
            .store(self.reads.load(Relaxed).wrapping_add(1), Relaxed);
        let expects_a_head = self.in_flight.load(Relaxed) == 0 && !self.shared.load(Relaxed);
        if expects_a_head && !self.head_begun.load(Relaxed) {
            self.head_begun.store(true, Relaxed);
            self.connection.set_kind(Kind::Head);
        }
    }

    #[inline]
    pub(crate) fn has_written(&self) {
        if !self.unflushed.load(Relaxed) {
            self.unflushed.store(true, Relaxed);
            // hyper may be done with a body before it writes the first byte of it.
            if self.connection.kind() == Kind::Idle && !self.shared.load(Relaxed) {
                self.connection.set_kind(Kind::Request);
            }
        }
    }

    #[inline]
    pub(crate) fn has_flushed(&self) {
        if self.unflushed.load(Relaxed) && self.in_flight.load(Relaxed) == 0 {
            self.set_idle();
        }
        self.unflushed.store(false, Relaxed);
    }

    // ===== told by the driver =====

    #[inline]
    pub(crate) fn is_movable(&self) -> bool {
        self.movable.load(Relaxed)
    }

    fn set_movable(&self, movable: bool) {
        self.movable.store(movable, Relaxed);
    }

    /// It cannot move in this drain, or not any more.
    pub(crate) fn stay(&self) {
        self.set_movable(false);
        self.hold_reads(false);
    }

    /// There is no drain: in the next one it may move again.
    pub(crate) fn run(&self) {
        self.stay();
        self.set_movable(self.immovable.is_none());
        self.stayed.store(false, Relaxed);
    }

    /// Says why it is not moved, once in a drain.
    pub(crate) fn stays_for(&self, why: Stays) {
        if !self.stayed.load(Relaxed) && self.graceful.count_stayed(why) {
            self.stayed.store(true, Relaxed);
            let peer = self.connection.peer();
            tracing::debug!(%peer, %why, "a connection is not moved");
        }
    }

    /// Why it is not moved in a drain that has just begun.
    pub(crate) fn why_it_stays(&self) -> Stays {
        if self.shared.load(Relaxed) {
            Stays::Http2
        } else if let Some(why) = self.immovable {
            why
        } else {
            Stays::Announced
        }
    }

    /// Holds reads back, or lets them go again.
    pub(crate) fn hold_reads(&self, hold: bool) {
        match hold {
            true => self.detours.fetch_or(HOLDS_READS, Relaxed),
            false => self.detours.fetch_and(!HOLDS_READS, Relaxed),
        };
    }

    /// Many requests share this connection: it speaks HTTP/2. They are given this token.
    pub(crate) fn share(&self, told: Graceful) {
        let _ = self.told.set(told);
        self.shared.store(true, Relaxed);
        self.head_begun.store(false, Relaxed);
        self.connection.set_kind(Kind::Idle);
    }

    // ===== asked and told by the service =====

    /// The token that requests are given: one that hears of the drain when their client has.
    pub(crate) fn told(&self) -> &Graceful {
        self.told.get().unwrap_or(&self.graceful)
    }

    /// A request begins, with the body of this number.
    #[inline]
    pub(crate) fn begin(&self, body: u32) {
        self.head_begun.store(false, Relaxed);
        self.body_open.store(body, Relaxed);
        if self.shared.load(Relaxed) {
            self.in_flight.fetch_add(1, Relaxed);
        } else {
            self.in_flight
                .store(self.in_flight.load(Relaxed) + 1, Relaxed);
        }
    }

    /// Tells the client, over HTTP/1, whether this answer is the last one.
    pub(crate) fn answer<B>(&self, response: &mut Response<B>, version: Version) {
        if version < Version::HTTP_11 {
            self.ends_answers.store(true, Relaxed);
        }
        if self.announces() {
            layer::announce_to(response, version);
        }
    }

    /// Whether the answer that begins now is to say that it is the last.
    ///
    /// The phase is looked at here as well, because the driver may not have seen it yet.
    #[inline]
    pub(crate) fn announces(&self) -> bool {
        self.closing.load(Relaxed)
            || self.graceful.phase() != Phase::Running
                && (!self.is_movable() || self.graceful.is_stopping())
    }

    #[inline]
    pub(crate) fn end(&self) {
        let shared = self.shared.load(Relaxed);
        let before = if shared {
            self.in_flight.fetch_sub(1, Relaxed)
        } else {
            let before = self.in_flight.load(Relaxed);
            self.in_flight.store(before.wrapping_sub(1), Relaxed);
            before
        };
        if before == 1 {
            // An answer that the client has not taken yet is not over.
            if !self.unflushed.load(Relaxed) {
                self.set_idle();
            }
            if shared {
                self.driver.wake();
            }
        }
    }

    #[inline]
    fn set_idle(&self) {
        if self.connection.kind() == Kind::Request {
            self.connection.set_kind(Kind::Idle);
        }
    }

    /// A number for a request body, which no other one of the last four billion has.
    pub(crate) fn next_request_body(&self) -> u32 {
        let bodies = self.bodies.fetch_add(1, Relaxed).wrapping_add(1);
        bodies.max(NO_BODY + 1)
    }

    /// This body has been read to its end.
    pub(crate) fn end_of_request_body(&self, ordinal: u32) {
        self.close_body(ordinal);
        self.driver.wake();
    }

    /// This body was dropped; at its end, or before.
    pub(crate) fn abandon_request_body(&self, ordinal: u32) {
        if self.body_open.load(Relaxed) == ordinal {
            // Whoever sees it sees that the body's channel is closed.
            self.body_abandoned.store(ordinal, Release);
            self.driver.wake();
        }
    }

    // Not that of a later request.
    fn close_body(&self, ordinal: u32) {
        let _ = self
            .body_open
            .compare_exchange(ordinal, NO_BODY, Relaxed, Relaxed);
    }

    /// A stream has become a tunnel, which no counter sees.
    pub(crate) fn tunnel(&self) {
        self.tunnels.store(true, Relaxed);
    }

    // ===== asked by the driver =====

    /// The body that has been dropped last, unread. Asked before hyper is polled.
    #[inline]
    pub(crate) fn abandoned_body(&self) -> Option<u32> {
        Some(self.body_abandoned.load(Acquire)).filter(|ordinal| *ordinal != NO_BODY)
    }

    /// hyper has been polled since, and has dealt with what was left of it.
    pub(crate) fn settle_abandoned_body(&self, ordinal: u32) {
        let _ = self
            .body_abandoned
            .compare_exchange(ordinal, NO_BODY, Relaxed, Relaxed);
        self.close_body(ordinal);
    }

    /// Wakes this task when the last request in flight ends, or its body.
    pub(crate) fn wake_at_the_end(&self, cx: &std::task::Context<'_>) {
        self.driver.register(cx.waker());
    }

    pub(crate) fn reads(&self) -> u32 {
        self.reads.load(Relaxed)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight.load(Relaxed) == 0 && !self.tunnels.load(Relaxed)
    }

    pub(crate) fn has_half_a_head(&self) -> bool {
        self.head_begun.load(Relaxed)
    }

    /// Nothing is owed, either way; invariant 2, but for hyper's `Pending`. Half a head may have
    /// been read.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.is_answered() && self.body_open.load(Relaxed) == NO_BODY
    }

    /// The last answer is out, although its request may not have been read to its end.
    pub(crate) fn is_answered(&self) -> bool {
        self.is_quiet() && !self.unflushed.load(Relaxed)
    }

    /// An answer that is broken off now would look like a whole one if the connection just ended.
    pub(crate) fn ends_answers(&self) -> bool {
        self.ends_answers.load(Relaxed)
    }

    // ===== after an upgrade =====

    pub(crate) fn upgrade(&self, holder: Holder) {
        self.hold_reads(false);
        // The application may have said already what it has become.
        if !self.connection.kind().is_upgraded() {
            self.connection.set_kind(Kind::Upgraded);
        }
        let mut upgraded = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_io.load(Relaxed) {
            *upgraded = Some(holder);
        }
        drop(upgraded);
        self.detours.fetch_or(HAS_LEFT, Release);
    }

    /// It has left HTTP: its holder is, or was, here to be taken.
    #[inline]
    pub(crate) fn has_left(&self) -> bool {
        self.detours.load(Acquire) & HAS_LEFT != 0
    }

    pub(crate) fn begin_io(&self) {
        let _upgraded = self.upgraded.lock();
        self.has_io.store(true, Relaxed);
    }

    /// The IO is gone, and so is whatever the application held the drain open for.
    pub(crate) fn end_io(&self) {
        let mut upgraded = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_io.store(false, Relaxed);
        let ended = upgraded.take();
        drop(upgraded);
        drop(ended);
    }

    pub(crate) fn take_upgraded(&self) -> Option<Holder> {
        let mut upgraded = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
        upgraded.take()
    }
}

#[cfg(test)]
mod tests {
    use handover::{Address, Reason};
    use http::{HeaderValue, StatusCode, header::CONNECTION};

    use super::*;

    fn link(immovable: Option<Stays>) -> (Graceful, Arc<Link>, impl Sized) {
        let graceful = Graceful::new();
        let guard = graceful.guard();
        let connection = Connection::new(Address::Unix(None));
        let link = Link::new(connection, graceful.clone(), immovable);
        (graceful, link, guard)
    }

    /// What a client is told of its connection in this answer.
    fn told(link: &Link, mut response: Response<()>) -> Option<HeaderValue> {
        link.answer(&mut response, Version::HTTP_11);
        response.headers_mut().remove(CONNECTION)
    }

    #[test]
    fn what_is_going_to_move_is_not_told_to_go() {
        let (graceful, link, _guard) = link(None);
        assert_eq!(told(&link, Response::new(())), None);
        graceful.drain_for(Reason::Upgrade { successor: 7 });
        assert_eq!(told(&link, Response::new(())), None);
    }

    #[test]
    fn what_cannot_move_is_told_so() {
        let (graceful, link, _guard) = link(Some(Stays::Listener));
        graceful.drain_for(Reason::Upgrade { successor: 7 });
        let close = HeaderValue::from_static("close");
        assert_eq!(told(&link, Response::new(())), Some(close));
        let mut switching = Response::new(());
        *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        assert_eq!(told(&link, switching), None);
    }
}
