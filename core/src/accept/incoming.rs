//! The accept loop: when to take connections, from whom, and what to do when that fails.
//!
//! # Invariants
//!
//! 1. While it may accept it holds the drain open: a drain cannot end between `accept` and the
//!    moment that the connection has a holder of its own.
//! 2. Where the service ends, what the kernel has queued is accepted before the loop ends, and what
//!    the listener has begun with is waited for. Where a
//!    successor has the socket, nothing is taken from its queue: if the successor dies, accepting
//!    goes on. What the successor does not have is taken here, until the listener says that there is
//!    no more.
//! 3. What a predecessor gives is taken until the drain is over, and goes on to the successor.

use std::{
    fmt,
    future::poll_fn,
    io,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{Accept, Address, Arrival, Connection, Protocol, reactor_has_looked};
use crate::{Graceful, Guard, Phase, Phases};

/// How long to wait after this host ran out of something.
const PAUSE: Duration = Duration::from_millis(100);

/// How often to say so.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// The connections of a listener, until its drain is over. For serve loops.
///
/// It holds the drain open until it is dropped, or has nothing more to accept. Programs use
/// [`Movables`](super::Movables), and loops of a foreign server
/// [`TrackedIncoming`](super::TrackedIncoming), which stand on it.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use handover::{Graceful, accept::{Incoming, Next}};
/// use tokio::net::{TcpListener, TcpStream};
///
/// let graceful = Graceful::new();
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut incoming = Incoming::new(listener, &graceful, &[]);
/// assert!(incoming.graceful().is_same_drain(&graceful));
///
/// let client = TcpStream::connect(incoming.get_ref().local_addr()?).await?;
/// let Some(Next::Accepted(_io, connection)) = incoming.next(true).await else {
///     panic!("a client has connected");
/// };
/// assert_eq!(connection.peer(), &client.local_addr()?.into());
///
/// graceful.drain();
/// assert!(incoming.next(true).await.is_none());
/// # Ok(())
/// # }
/// ```
pub struct Incoming<A> {
    listener: A,
    // Where that listens, for those who ask what is open. Looked up with its first connection: of
    // thousands of listeners most may have none.
    at: OnceLock<Option<Arc<str>>>,
    graceful: Graceful,
    phases: Phases,
    phase: Phase,
    // While it may accept.
    guard: Option<Guard>,
    adopts: bool,
    // Nothing is left in this drain that only we would take.
    took_leftovers: bool,
    said: Option<Instant>,
}

/// What comes next; see [`Incoming::next`].
///
/// # Examples
///
/// ```
/// use handover::{Graceful, Holder, accept::{Next, Parcel}};
///
/// /// Makes one of both: what is to be served, and what holds the drain open for it.
/// async fn take<Io>(next: Next<Io>, graceful: &Graceful) -> Option<(Parcel<Io>, Holder)> {
///     match next {
///         Next::Accepted(io, connection) => {
///             let holder = connection.hold(graceful)?;
///             Some((Parcel::new(io, Vec::new(), connection), holder))
///         }
///         Next::Given(arrival) => {
///             // Before the claim, so that at no moment nobody counts it.
///             let holder = arrival.connection().hold(graceful)?;
///             Some((arrival.claim().await, holder))
///         }
///     }
/// }
/// ```
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "each is to be served, or refused")]
pub enum Next<Io> {
    /// It was accepted here. Nothing holds the drain open for it yet.
    Accepted(Io, Arc<Connection>),
    /// A predecessor offers it.
    Given(Arrival<Io>),
}

enum Event<Io> {
    Turned(Phase),
    Accepted(io::Result<(Io, Address)>),
    Given(Arrival<Io>),
    // There are no more leftovers.
    NothingLeft,
}

impl<A: Accept> Incoming<A> {
    /// Those that are accepted, and those that a predecessor gives and that speak one of `adopts`.
    pub fn new(listener: A, graceful: &Graceful, adopts: &[Protocol]) -> Self {
        if !adopts.is_empty() {
            listener.adopts(adopts);
        }
        Self {
            listener,
            at: OnceLock::new(),
            phases: graceful.phases(),
            phase: graceful.phase(),
            guard: graceful.guard(),
            graceful: graceful.clone(),
            adopts: !adopts.is_empty(),
            took_leftovers: false,
            said: None,
        }
    }

    /// The next connection; `None` once there will be no more.
    ///
    /// Without `room` nothing is accepted, save what would be lost otherwise; what a predecessor
    /// gives is taken all the same. Where accepting fails it is tried again, after a pause if this
    /// host lacks descriptors or memory, which is logged.
    ///
    /// # Cancel safety
    ///
    /// A connection is either returned, or comes with the next call.
    pub async fn next(&mut self, room: bool) -> Option<Next<A::Io>> {
        loop {
            let event = if self.phase.accepts() {
                self.took_leftovers = false;
                if self.guard.is_none() {
                    self.guard = Some(self.graceful.guard()?);
                }
                poll_fn(|cx| self.poll_running(room, cx)).await
            } else if self.phase == Phase::Draining && !self.graceful.is_stopping() {
                if self.took_leftovers {
                    self.guard = None;
                }
                poll_fn(|cx| self.poll_upgrade(cx)).await
            } else if self.phase == Phase::Draining && !room {
                Event::Turned(self.phases.next().await)
            } else {
                // Boxed, as what follows from an error: thousands of listeners wait here, and need no
                // room for what most never come to.
                let last = match self.phase {
                    Phase::Draining => Box::pin(self.last()).await,
                    _ => None,
                };
                if last.is_none() {
                    self.guard = None;
                }
                return last.map(|(io, peer)| self.accepted(io, peer));
            };
            match event {
                Event::Turned(phase) => self.phase = phase,
                Event::Given(arrival) => {
                    self.introduce(arrival.connection());
                    return Some(Next::Given(arrival));
                }
                Event::Accepted(Ok((io, peer))) => return Some(self.accepted(io, peer)),
                Event::Accepted(Err(error)) => Box::pin(self.failed(&error)).await,
                Event::NothingLeft => self.took_leftovers = true,
            }
        }
    }

    /// The listener.
    pub fn get_ref(&self) -> &A {
        &self.listener
    }

    /// Whose drain ends it.
    pub fn graceful(&self) -> &Graceful {
        &self.graceful
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Event<A::Io>> {
        if let Poll::Ready(phase) = self.phases.poll_next(cx) {
            return Poll::Ready(Event::Turned(phase));
        }
        match self.adopts {
            true => self.listener.poll_adopt(cx).map(Event::Given),
            false => Poll::Pending,
        }
    }

    fn poll_running(&mut self, room: bool, cx: &mut Context<'_>) -> Poll<Event<A::Io>> {
        match self.poll_turn(cx) {
            Poll::Pending if room => self.listener.poll_accept(cx).map(Event::Accepted),
            turned => turned,
        }
    }

    fn poll_upgrade(&mut self, cx: &mut Context<'_>) -> Poll<Event<A::Io>> {
        match self.poll_turn(cx) {
            Poll::Pending if !self.took_leftovers => {
                let left = self.listener.poll_leftover(cx);
                left.map(|left| left.map_or(Event::NothingLeft, Event::Accepted))
            }
            turned => turned,
        }
    }

    fn accepted(&self, mut io: A::Io, peer: Address) -> Next<A::Io> {
        let connection = Connection::new(peer);
        self.introduce(&connection);
        self.listener.introduce(&mut io, &connection);
        Next::Accepted(io, connection)
    }

    fn introduce(&self, connection: &Connection) {
        if let Some(at) = self.at() {
            connection.set_listener(at);
        }
    }

    fn at(&self) -> Option<&Arc<str>> {
        let look = || Some(self.listener.local_addr().ok()?.to_string().into());
        self.at.get_or_init(look).as_ref()
    }

    /// Where the service ends: what waits in the kernel's queue, and then what the listener has taken
    /// from it and not returned yet.
    async fn last(&mut self) -> Option<(A::Io, Address)> {
        if let Some(queued) = self.queued().await {
            return Some(queued);
        }
        loop {
            let left = tokio::select! {
                biased;
                () = self.graceful.cutting() => return None,
                left = poll_fn(|cx| self.listener.poll_leftover(cx)) => left?,
            };
            match left {
                Ok(left) => return Some(left),
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// What waits in the kernel's queue, where the service ends.
    async fn queued(&mut self) -> Option<(A::Io, Address)> {
        let mut is_sure = false;
        loop {
            let polled = tokio::task::unconstrained(poll_fn(|cx| {
                Poll::Ready(self.listener.poll_accept(cx))
            }));
            match polled.await {
                Poll::Ready(Ok(accepted)) => return Some(accepted),
                Poll::Ready(Err(error)) => self.failed(&error).await,
                Poll::Pending if is_sure => return None,
                // A connection that has come may not have been reported yet.
                Poll::Pending => {
                    reactor_has_looked().await;
                    is_sure = true;
                }
            }
        }
    }

    /// An error is about one client, or about this host.
    async fn failed(&mut self, error: &io::Error) {
        if is_about_one_client(error.kind()) {
            tracing::debug!(listener = %self.name(), %error, "a client has gone before it was accepted");
            return;
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.said = Some(Instant::now());
            tracing::error!(
                listener = %self.name(),
                %error,
                "cannot accept; connections wait in the kernel's queue, trying again",
            );
        }
        // Closing connections frees what is missing; until then trying would only burn time.
        tokio::select! {
            phase = self.phases.next() => self.phase = phase,
            () = sleep(PAUSE) => {}
        }
    }

    fn name(&self) -> String {
        self.at().map_or("unknown", |at| at).to_owned()
    }
}

/// accept(2): "treat them like EAGAIN"; they are about a client that has gone.
fn is_about_one_client(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        Interrupted, NetworkDown, NetworkUnreachable, TimedOut, WouldBlock,
    };
    matches!(
        kind,
        BrokenPipe
            | ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
            | WouldBlock
    )
}

impl<A> fmt::Debug for Incoming<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("phase", &self.phase)
            .field("graceful", &self.graceful)
            .finish_non_exhaustive()
    }
}
