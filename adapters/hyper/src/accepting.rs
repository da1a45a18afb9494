//! The accept loop: when to accept, and what to do when that fails.
//!
//! # Invariants
//!
//! 1. While it may accept it holds the drain open: a drain cannot end between `accept` and the
//!    moment that the connection has a holder of its own.
//! 2. Where the service ends, what the kernel has queued is accepted before the socket is closed.
//!    Where a successor has the socket, nothing is taken from its queue, and the socket is kept
//!    until the drain is over: if the successor dies, accepting goes on. What the successor does not
//!    have is taken here, until the listener says that there is no more.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use handover::{
    Accept, Address, Connection, Graceful, Guard, Holder, Phase, Phases, Stays,
    accept::{Arrival, Mover, Protocol},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use crate::options::Options;

/// How long to wait after this host ran out of something.
const PAUSE: Duration = Duration::from_millis(100);

/// How often to say so.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// A connection, and what it holds.
pub(crate) struct Accepted<Io> {
    pub(crate) came: Came<Io>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) holder: Holder,
    pub(crate) place: Option<Place>,
}

/// Counts for the limit of connections until it is dropped.
pub(crate) enum Place {
    Permitted(#[allow(dead_code)] OwnedSemaphorePermit),
    /// It was here before there was room for it. It gets the next place that is free, before any
    /// connection that has still to be accepted: the semaphore is fair.
    Queued(#[allow(dead_code)] Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Place {
    /// A place for a connection that is there already.
    fn claim(limit: &Arc<Semaphore>) -> Self {
        if let Ok(permit) = limit.clone().try_acquire_owned() {
            return Self::Permitted(permit);
        }
        let limit = limit.clone();
        let mut queued = Box::pin(async move {
            // Once it has come it is held as long as this is.
            let _permit = limit.acquire_owned().await;
            std::future::pending().await
        });
        // Polled once it stands in the queue; and what is in the queue is given its place by who
        // leaves one.
        let _ = queued
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        Self::Queued(queued)
    }
}

/// How a connection came here.
pub(crate) enum Came<Io> {
    Accepted(Io),
    /// From a predecessor, whose it is until it is claimed.
    Given(Arrival<Io>),
}

pub(crate) struct Accepting<A> {
    listener: A,
    name: String,
    graceful: Graceful,
    phases: Phases,
    phase: Phase,
    guard: Option<Guard>,
    limit: Option<Arc<Semaphore>>,
    // For the next connection, where there is a limit.
    permit: Option<OwnedSemaphorePermit>,
    said: Option<Instant>,
    // Nothing is left in this drain that only we would take.
    took_leftovers: bool,
}

impl<A: Accept> Accepting<A> {
    pub(crate) fn new(
        listener: A,
        graceful: Graceful,
        guard: Option<Guard>,
        options: &Options<impl Sized>,
        adopts: &[Protocol],
    ) -> io::Result<Self> {
        listener.adopts(adopts);
        let limit = options.connections.map(|n| n.min(Semaphore::MAX_PERMITS));
        Ok(Self {
            name: format!("accept on {}", listener.local_addr()?),
            listener,
            phases: graceful.phases(),
            phase: graceful.phase(),
            graceful,
            guard,
            limit: limit.map(|n| Arc::new(Semaphore::new(n))),
            permit: None,
            said: None,
            took_leftovers: false,
        })
    }

    /// What gives connections to a successor, or why nothing does.
    pub(crate) fn mover(&self) -> Result<Arc<dyn Mover<A::Io>>, Stays> {
        self.listener.mover().ok_or_else(|| self.listener.stays())
    }

    /// The next connection; `None` once there will be no more.
    pub(crate) async fn next(&mut self) -> Option<Accepted<A::Io>> {
        loop {
            if self.phase.accepts() {
                self.took_leftovers = false;
                self.hold()?;
                let needs_permit = self.limit.is_some() && self.permit.is_none();
                let listener = &mut self.listener;
                let next = tokio::select! {
                    biased;
                    phase = self.phases.next() => { self.phase = phase; continue }
                    permit = permit(&self.limit), if needs_permit => {
                        self.permit = permit;
                        continue;
                    }
                    next = poll_fn(|cx| poll_next(listener, !needs_permit, cx)) => next,
                };
                match next {
                    Next::Given(arrival) => return self.given(arrival),
                    Next::Accepted(Ok((io, peer))) => return self.accepted(io, peer),
                    Next::Accepted(Err(error)) => self.failed(&error).await,
                }
            } else if self.phase == Phase::Draining && self.is_upgrade() {
                self.permit = None;
                if self.took_leftovers {
                    self.guard = None;
                }
                let (listener, left) = (&mut self.listener, !self.took_leftovers);
                let next = tokio::select! {
                    biased;
                    phase = self.phases.next() => { self.phase = phase; continue }
                    next = poll_fn(|cx| poll_last(listener, left, cx)) => next,
                };
                match next {
                    // It goes on to the next generation as soon as it is ours; refused if our own
                    // drain is over.
                    Some(Next::Given(arrival)) => {
                        if let Some(accepted) = self.given(arrival) {
                            return Some(accepted);
                        }
                    }
                    // Nor does it wait for a place: the socket is not there for much longer.
                    Some(Next::Accepted(Ok((io, peer)))) => {
                        let accepted = self.accepted(io, peer)?;
                        let place = self.limit.as_ref().map(Place::claim);
                        return Some(Accepted { place, ..accepted });
                    }
                    Some(Next::Accepted(Err(error))) => self.failed(&error).await,
                    None => self.took_leftovers = true,
                }
            } else if self.phase == Phase::Draining {
                let queued = self.queued().await;
                if queued.is_none() {
                    self.guard = None;
                }
                return queued;
            } else {
                return None;
            }
        }
    }

    fn is_upgrade(&self) -> bool {
        self.graceful.reason().is_some_and(|r| r.is_upgrade())
    }

    fn hold(&mut self) -> Option<()> {
        if self.guard.is_none() {
            self.guard = Some(self.graceful.guard()?);
        }
        Some(())
    }

    fn accepted(&mut self, mut io: A::Io, peer: Address) -> Option<Accepted<A::Io>> {
        let connection = Connection::new(peer);
        self.listener.introduce(&mut io, &connection);
        let holder = connection.hold(&self.graceful)?;
        Some(Accepted {
            came: Came::Accepted(io),
            connection,
            holder,
            place: self.permit.take().map(Place::Permitted),
        })
    }

    /// These were accepted long ago, and so are not held up by the limit, but they count for it.
    fn given(&mut self, arrival: Arrival<A::Io>) -> Option<Accepted<A::Io>> {
        let connection = arrival.connection().clone();
        let holder = connection.hold(&self.graceful)?;
        let place = match (self.permit.take(), &self.limit) {
            (Some(permit), _) => Some(Place::Permitted(permit)),
            (None, limit) => limit.as_ref().map(Place::claim),
        };
        Some(Accepted {
            came: Came::Given(arrival),
            connection,
            holder,
            place,
        })
    }

    /// What waits in the kernel's queue.
    async fn queued(&mut self) -> Option<Accepted<A::Io>> {
        if self.permit.is_none() {
            self.permit = tokio::select! {
                permit = permit(&self.limit) => permit,
                () = self.graceful.cutting() => return None,
            };
        }
        // A connection that has just come may not have been reported yet: let the reactor look.
        for _ in 0..3 {
            let polled = tokio::task::unconstrained(poll_fn(|cx| {
                Poll::Ready(self.listener.poll_accept(cx))
            }));
            match polled.await {
                Poll::Ready(Ok((io, peer))) => return self.accepted(io, peer),
                Poll::Ready(Err(_)) => {}
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
        None
    }

    /// An error is about one client, or about this host.
    async fn failed(&mut self, error: &io::Error) {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
            Interrupted, NetworkDown, NetworkUnreachable, TimedOut, WouldBlock,
        };
        // accept(2): "treat them like EAGAIN"; they are about a client that has gone.
        let one_client = matches!(
            error.kind(),
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
        );
        if one_client {
            tracing::debug!(listener = %self.name, %error, "a client has gone before it was accepted");
            return;
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.said = Some(Instant::now());
            tracing::error!(
                listener = %self.name,
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
}

enum Next<Io> {
    Accepted(io::Result<(Io, Address)>),
    Given(Arrival<Io>),
}

fn poll_next<A: Accept>(
    listener: &mut A,
    accepts: bool,
    cx: &mut Context<'_>,
) -> Poll<Next<A::Io>> {
    if let Poll::Ready(arrival) = listener.poll_adopt(cx) {
        return Poll::Ready(Next::Given(arrival));
    }
    match accepts {
        true => listener.poll_accept(cx).map(Next::Accepted),
        false => Poll::Pending,
    }
}

/// In the drain after an upgrade: what is given, and what only we would take; `None` once there is
/// no more of the latter.
fn poll_last<A: Accept>(
    listener: &mut A,
    left: bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Next<A::Io>>> {
    if let Poll::Ready(arrival) = listener.poll_adopt(cx) {
        return Poll::Ready(Some(Next::Given(arrival)));
    }
    match left {
        true => listener
            .poll_leftover(cx)
            .map(|next| next.map(Next::Accepted)),
        false => Poll::Pending,
    }
}

async fn permit(limit: &Option<Arc<Semaphore>>) -> Option<OwnedSemaphorePermit> {
    match limit {
        // The semaphore is never closed, so there is no error.
        Some(limit) => limit.clone().acquire_owned().await.ok(),
        None => None,
    }
}
