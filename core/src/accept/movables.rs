//! A listener of a program's own protocol: what it accepts, and what its predecessor gives it.
//!
//! # Invariants
//!
//! 1. A connection has its holder before its claim is sent; and while this may accept,
//!    [`Incoming`] holds the drain open. So at no moment a connection is there that nothing counts.
//! 2. A claim that has been begun is ended, also if the future that waits for it was dropped.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use super::{Accept, Arrival, Connection, Incoming, Movable, Mover, Next, Parcel, Protocol};
use crate::{Graceful, Holder};

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
    incoming: Incoming<A>,
    protocol: Protocol,
    mover: Option<Arc<dyn Mover<A::Io>>>,
    claim: Option<Claim<A::Io>>,
}

struct Claim<Io> {
    claim: Pin<Box<dyn Future<Output = Parcel<Io>> + Send>>,
    holder: Option<Holder>,
}

impl<A: Accept> Movables<A> {
    /// The connections of `listener`, which all speak `protocol`, until `graceful` has drained.
    ///
    /// It holds the drain open until it is dropped, or has nothing more to accept.
    pub fn new(listener: A, protocol: Protocol, graceful: &Graceful) -> Self {
        Self {
            mover: listener.mover(),
            incoming: Incoming::new(listener, graceful, &[protocol]),
            protocol,
            claim: None,
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
            match self.incoming.next(true).await? {
                Next::Given(arrival) => self.claim(arrival),
                Next::Accepted(io, connection) => return self.accepted(io, connection),
            }
        }
    }

    /// The listener.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use handover::{Graceful, accept::{Movables, Protocol}};
    /// use tokio::net::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let sessions = Movables::new(listener, Protocol::new("lines", 1), &Graceful::new());
    /// assert_ne!(sessions.get_ref().local_addr()?.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_ref(&self) -> &A {
        self.incoming.get_ref()
    }

    fn accepted(&self, io: A::Io, connection: Arc<Connection>) -> Option<Movable<A::Io>> {
        let holder = connection.hold(self.incoming.graceful())?;
        Some(self.movable(Parcel::new(io, Vec::new(), connection), holder))
    }

    fn movable(&self, parcel: Parcel<A::Io>, holder: Holder) -> Movable<A::Io> {
        let mover = self.mover.clone();
        Movable::new(
            parcel,
            self.protocol,
            self.incoming.graceful(),
            holder,
            mover,
        )
    }

    /// Refused, if the drain is over.
    fn claim(&mut self, arrival: Arrival<A::Io>) {
        if let Some(holder) = arrival.connection().hold(self.incoming.graceful()) {
            self.claim = Some(Claim {
                claim: Box::pin(arrival.claim()),
                holder: Some(holder),
            });
        }
    }
}

impl<A: Accept> fmt::Debug for Movables<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Movables")
            .field("protocol", &self.protocol)
            .field("incoming", &self.incoming)
            .finish_non_exhaustive()
    }
}
