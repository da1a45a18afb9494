//! A listener of a program's own protocol: what it accepts, and what its predecessor gives it.
//!
//! # Invariants
//!
//! 1. A connection has its holder before its claim is sent; and while this may accept it holds the
//!    drain open itself. So at no moment a connection is there that nothing counts.
//! 2. A claim that has been begun is ended, also if the future that waits for it was dropped.
//! 3. Where a successor has the socket, nothing is taken from its queue; what the successor does not
//!    have is. What a predecessor gives is still taken, and goes on to the successor.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::sleep;

use super::{Accept, Address, Arrival, Connection, Movable, Mover, Parcel, Protocol};
use crate::{Graceful, Guard, Holder, Phase, Phases};

/// How long to wait after this host ran out of something.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections of a program's own protocol on a listener, until its drain is over: those that
/// are accepted, and those that the predecessor gives.
///
/// Make it before the generation is ready, or the predecessor's connections are refused.
///
/// # Examples
///
/// ```no_run
/// # async fn serve(_: handover::accept::Movable<handover::Stream>) {}
/// # async fn example() -> Result<(), handover::Error> {
/// use handover::{Generation, accept::{Movables, Protocol}};
///
/// let generation = Generation::start()?;
/// let listener = generation.listen("127.0.0.1:7000").await?;
/// let graceful = generation.graceful();
/// let mut sessions = Movables::new(listener, Protocol::new("lines", 1), &graceful);
/// generation.ready().await?;
/// while let Some(session) = sessions.next().await {
///     tokio::spawn(serve(session));
/// }
/// graceful.drained().await;
/// # Ok(())
/// # }
/// ```
pub struct Movables<A: Accept> {
    listener: A,
    protocol: Protocol,
    graceful: Graceful,
    phases: Phases,
    phase: Phase,
    // While it may accept.
    guard: Option<Guard>,
    mover: Option<Arc<dyn Mover<A::Io>>>,
    claim: Option<Claim<A::Io>>,
    // Nothing is left in this drain that only we would take.
    took_leftovers: bool,
}

struct Claim<Io> {
    claim: Pin<Box<dyn Future<Output = Parcel<Io>> + Send>>,
    holder: Option<Holder>,
}

enum Next<Io> {
    Accepted(io::Result<(Io, Address)>),
    Given(Arrival<Io>),
}

impl<A: Accept> Movables<A> {
    /// The connections of `listener`, which all speak `protocol`, until `graceful` has drained.
    ///
    /// It holds the drain open until it is dropped, or has nothing more to accept.
    pub fn new(listener: A, protocol: Protocol, graceful: &Graceful) -> Self {
        listener.adopts(&[protocol]);
        Self {
            mover: listener.mover(),
            listener,
            protocol,
            phases: graceful.phases(),
            phase: graceful.phase(),
            guard: graceful.guard(),
            graceful: graceful.clone(),
            claim: None,
            took_leftovers: false,
        }
    }

    /// The next connection; `None` once there will be no more.
    ///
    /// Where accepting fails for want of descriptors or memory it is tried again; that is logged.
    ///
    /// # Cancel safety
    ///
    /// A connection is either returned, or comes with the next call.
    pub async fn next(&mut self) -> Option<Movable<A::Io>> {
        loop {
            if let Some(claim) = &mut self.claim {
                let parcel = claim.claim.as_mut().await;
                let holder = self.claim.take().and_then(|claim| claim.holder)?;
                return Some(self.movable(parcel, holder));
            }
            if self.phase.accepts() {
                self.took_leftovers = false;
                self.hold()?;
                let listener = &mut self.listener;
                let next = tokio::select! {
                    biased;
                    phase = self.phases.next() => { self.phase = phase; continue }
                    next = poll_fn(|cx| poll_next(listener, cx)) => next,
                };
                match next {
                    Next::Given(arrival) => self.claim(arrival),
                    Next::Accepted(Ok((io, peer))) => return self.accepted(io, peer),
                    Next::Accepted(Err(error)) => self.failed(&error).await,
                }
            } else if self.phase == Phase::Draining && self.is_upgrade() {
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
                    Some(Next::Given(arrival)) => self.claim(arrival),
                    Some(Next::Accepted(Ok((io, peer)))) => return self.accepted(io, peer),
                    Some(Next::Accepted(Err(error))) => self.failed(&error).await,
                    None => self.took_leftovers = true,
                }
            } else if self.phase == Phase::Draining {
                match self.queued().await {
                    Some((io, peer)) => return self.accepted(io, peer),
                    None => {
                        self.guard = None;
                        return None;
                    }
                }
            } else {
                return None;
            }
        }
    }

    /// The listener.
    pub fn get_ref(&self) -> &A {
        &self.listener
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

    fn accepted(&self, mut io: A::Io, peer: Address) -> Option<Movable<A::Io>> {
        let connection = Connection::new(peer);
        self.listener.introduce(&mut io, &connection);
        let holder = connection.hold(&self.graceful)?;
        Some(self.movable(Parcel::new(io, Vec::new(), connection), holder))
    }

    fn movable(&self, parcel: Parcel<A::Io>, holder: Holder) -> Movable<A::Io> {
        let mover = self.mover.clone();
        Movable::new(parcel, self.protocol, &self.graceful, holder, mover)
    }

    /// Refused, if the drain is over.
    fn claim(&mut self, arrival: Arrival<A::Io>) {
        if let Some(holder) = arrival.connection().hold(&self.graceful) {
            self.claim = Some(Claim {
                claim: Box::pin(arrival.claim()),
                holder: Some(holder),
            });
        }
    }

    /// What waits in the kernel's queue, where the service ends.
    async fn queued(&mut self) -> Option<(A::Io, Address)> {
        // A connection that has just come may not have been reported yet: let the reactor look.
        for _ in 0..3 {
            let polled = tokio::task::unconstrained(poll_fn(|cx| {
                Poll::Ready(self.listener.poll_accept(cx))
            }));
            match polled.await {
                Poll::Ready(Ok(accepted)) => return Some(accepted),
                Poll::Ready(Err(_)) => {}
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
        None
    }

    async fn failed(&mut self, error: &io::Error) {
        tracing::warn!(protocol = %self.protocol, %error, "cannot accept, trying again");
        // Closing connections frees what is missing; until then trying would only burn time.
        tokio::select! {
            phase = self.phases.next() => self.phase = phase,
            () = sleep(PAUSE) => {}
        }
    }
}

fn poll_next<A: Accept>(listener: &mut A, cx: &mut Context<'_>) -> Poll<Next<A::Io>> {
    match listener.poll_adopt(cx) {
        Poll::Ready(arrival) => Poll::Ready(Next::Given(arrival)),
        Poll::Pending => listener.poll_accept(cx).map(Next::Accepted),
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
    if !left {
        return Poll::Pending;
    }
    let next = listener.poll_leftover(cx);
    next.map(|next| next.map(Next::Accepted))
}

impl<A: Accept> fmt::Debug for Movables<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Movables")
            .field("protocol", &self.protocol)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}
