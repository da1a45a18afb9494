//! The accept loop's limit: how many connections are served at a time.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
};

use handover::{
    Accept, Address, Connection, Graceful, Guard, Holder, Stays,
    accept::{Arrival, Incoming, Mover, Next, Protocol},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::options::Options;

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
    incoming: Incoming<A>,
    limit: Option<Arc<Semaphore>>,
    // For the next connection, where there is a limit.
    permit: Option<OwnedSemaphorePermit>,
}

impl<A: Accept> Accepting<A> {
    pub(crate) fn new(
        listener: A,
        graceful: &Graceful,
        guard: Option<Guard>,
        options: &Options<impl Sized>,
        adopts: &[Protocol],
    ) -> io::Result<Self> {
        // What has no address is no listener.
        listener.local_addr()?;
        let limit = options.connections.map(|n| n.min(Semaphore::MAX_PERMITS));
        let incoming = Incoming::new(listener, graceful, adopts);
        // From here on it holds the drain open itself.
        drop(guard);
        Ok(Self {
            incoming,
            limit: limit.map(|n| Arc::new(Semaphore::new(n))),
            permit: None,
        })
    }

    /// What gives connections to a successor, or why nothing does.
    pub(crate) fn mover(&self, moves: bool) -> Result<Arc<dyn Mover<A::Io>>, Stays> {
        if !moves {
            return Err(Stays::Disabled);
        }
        let listener = self.incoming.get_ref();
        listener.mover().ok_or_else(|| listener.stays())
    }

    /// The next connection; `None` once there will be no more.
    pub(crate) async fn next(&mut self) -> Option<Accepted<A::Io>> {
        loop {
            let room = self.limit.is_none() || self.permit.is_some();
            let next = tokio::select! {
                biased;
                permit = permit(&self.limit), if !room => {
                    self.permit = permit;
                    continue;
                }
                next = self.incoming.next(room) => next?,
            };
            match next {
                Next::Accepted(io, peer) => return self.accepted(io, peer),
                // It goes on to the next generation as soon as it is ours; refused if our own drain
                // is over.
                Next::Given(arrival) => {
                    if let Some(accepted) = self.given(arrival) {
                        return Some(accepted);
                    }
                }
            }
        }
    }

    fn accepted(&mut self, mut io: A::Io, peer: Address) -> Option<Accepted<A::Io>> {
        let connection = Connection::new(peer);
        self.incoming.get_ref().introduce(&mut io, &connection);
        let holder = connection.hold(self.incoming.graceful())?;
        Some(Accepted {
            came: Came::Accepted(io),
            connection,
            holder,
            place: self.place(),
        })
    }

    fn given(&mut self, arrival: Arrival<A::Io>) -> Option<Accepted<A::Io>> {
        let connection = arrival.connection().clone();
        let holder = connection.hold(self.incoming.graceful())?;
        Some(Accepted {
            came: Came::Given(arrival),
            connection,
            holder,
            place: self.place(),
        })
    }

    /// What was accepted long ago, or would be lost, is not held up by the limit, but counts for it.
    fn place(&mut self) -> Option<Place> {
        match self.permit.take() {
            Some(permit) => Some(Place::Permitted(permit)),
            None => self.limit.as_ref().map(Place::claim),
        }
    }
}

async fn permit(limit: &Option<Arc<Semaphore>>) -> Option<OwnedSemaphorePermit> {
    match limit {
        // The semaphore is never closed, so there is no error.
        Some(limit) => limit.clone().acquire_owned().await.ok(),
        None => None,
    }
}
