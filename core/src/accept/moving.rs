//! What a connection is while it goes from one generation to the next.
//!
//! The protocol has two phases, so that at each instant exactly one process reads from a connection:
//!
//! 1. The predecessor takes the connection out of its runtime at a message boundary, and gives it:
//!    descriptor, unread bytes, facts. It keeps a duplicate and reads no more.
//! 2. The successor claims it, which tells the predecessor, *before* its first read. Or it refuses,
//!    by dropping the [`Arrival`]. In between it may hold one on which nothing has come: until
//!    [`Arrival::due`] ends, which it does without reading, the connection is the predecessor's, and
//!    outlives the successor.
//! 3. Claimed, the predecessor closes its duplicate (never `shutdown(2)`). Refused, or if the
//!    successor has gone and left no claim in the channel, the connection is the predecessor's
//!    again.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{Connection, Departure, Departures, Protocol};
use crate::Stays;

/// The most bytes that may have been read ahead from a connection that moves.
pub const MAX_UNREAD: usize = 32 * 1024;
/// The most bytes of state that go with a connection. What is larger, or shared by connections, is
/// the generation's to keep.
pub const MAX_STATE: usize = 32 * 1024;

/// A connection at a message boundary, and all that belongs to it.
///
/// # Examples
///
/// ```
/// use handover::{Connection, Stays, accept::{Parcel, Protocol}};
///
/// # let (_client, io) = tokio::io::duplex(64);
/// let connection = Connection::new("10.0.0.3:51234".parse()?);
/// let parcel = Parcel::new(io, b"GET / HT".to_vec(), connection);
/// assert_eq!(parcel.protocol, Protocol::HTTP);
///
/// // As one of another protocol, over something that wraps the connection, and on its way back.
/// let parcel = parcel
///     .speaking(Protocol::new("lines", 1), b"7".to_vec())
///     .map(tokio::io::BufReader::new)
///     .staying(Stays::Refused);
/// assert_eq!((parcel.unread.len(), parcel.state.len()), (8, 1));
/// assert_eq!(parcel.stays, Some(Stays::Refused));
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Parcel<Io> {
    /// The connection.
    pub io: Io,
    /// What was read from it and has not been used: to be read again, first.
    pub unread: Vec<u8>,
    /// What is known of it.
    pub connection: Arc<Connection>,
    /// What is spoken on it; the version is that of the state.
    pub protocol: Protocol,
    /// What the application knows of it. HTTP has none.
    pub state: Vec<u8>,
    /// Why it was not taken, if it comes back from [`Mover::give`].
    pub stays: Option<Stays>,
    /// Its turn, if it waited for one: over as soon as the successor has it.
    pub departure: Option<Departure>,
}

impl<Io> Parcel<Io> {
    /// An HTTP connection, what was read ahead, and what is known of it.
    pub fn new(io: Io, unread: Vec<u8>, connection: Arc<Connection>) -> Self {
        Self {
            io,
            unread,
            connection,
            protocol: Protocol::HTTP,
            state: Vec::new(),
            stays: None,
            departure: None,
        }
    }

    /// The same connection as one of another protocol, with this state.
    #[must_use]
    pub fn speaking(mut self, protocol: Protocol, state: Vec<u8>) -> Self {
        self.protocol = protocol;
        self.state = state;
        self
    }

    /// The same over what `into` makes of the connection.
    pub fn map<T>(self, into: impl FnOnce(Io) -> T) -> Parcel<T> {
        Parcel {
            io: into(self.io),
            unread: self.unread,
            connection: self.connection,
            protocol: self.protocol,
            state: self.state,
            stays: self.stays,
            departure: self.departure,
        }
    }

    /// The same, with the reason why it comes back.
    #[must_use]
    pub fn staying(mut self, why: Stays) -> Self {
        self.stays = Some(why);
        self
    }
}

/// Gives connections to the successor. A listener that can has one; see
/// [`Accept::mover`](super::Accept::mover).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::{Connection, Stays, accept::{Departures, Giving, Mover, Parcel}};
/// use tokio::{io::DuplexStream, sync::mpsc};
///
/// /// Gives connections to another part of this process.
/// struct Other(mpsc::Sender<Parcel<DuplexStream>>);
///
/// impl Mover<DuplexStream> for Other {
///     fn is_open(&self) -> bool {
///         !self.0.is_closed()
///     }
///
///     fn departures(&self) -> Departures {
///         Departures::limited(64)
///     }
///
///     fn give(&self, parcel: Parcel<DuplexStream>) -> Giving<DuplexStream> {
///         let other = self.0.clone();
///         Box::pin(async move {
///             let given = other.send(parcel).await;
///             given.map_err(|back| back.0.staying(Stays::NoTaker))
///         })
///     }
/// }
///
/// let parcel = |io| {
///     let peer = "10.0.0.3:51234".parse()?;
///     Ok::<_, std::net::AddrParseError>(Parcel::new(io, Vec::new(), Connection::new(peer)))
/// };
/// let (_client, io) = tokio::io::duplex(64);
/// let (other, mut taken) = mpsc::channel(8);
/// let mover = Other(other);
/// let turn = mover.departures().next().await;
/// assert!(mover.give(parcel(io)?).await.is_ok());
/// drop(turn);
/// let taken_over = taken.recv().await;
/// assert!(taken_over.is_some());
///
/// drop(taken);
/// assert!(!mover.is_open());
/// let (_client, io) = tokio::io::duplex(64);
/// let back = mover.give(parcel(io)?).await.unwrap_err();
/// assert_eq!(back.stays, Some(Stays::NoTaker));
/// # Ok(())
/// # }
/// ```
pub trait Mover<Io>: Send + Sync + 'static {
    /// Returns true while there is a successor that may take connections.
    fn is_open(&self) -> bool;

    /// The turns of connections on which nothing happens. Others are given without one.
    fn departures(&self) -> Departures {
        Departures::unlimited()
    }

    /// Gives a connection. Once this has ended well it is the successor's.
    ///
    /// The future fails with the parcel if the connection is the caller's again: the successor
    /// has refused it or has gone, or it cannot be moved at all.
    fn give(&self, parcel: Parcel<Io>) -> Giving<Io>;
}

/// A connection on its way; see [`Mover::give`].
pub type Giving<Io> = Pin<Box<dyn Future<Output = Result<(), Parcel<Io>>> + Send>>;

/// A connection that a predecessor offers. Dropped, it is refused, and goes back.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::{Connection, accept::{Arrival, Parcel, Protocol}};
/// use tokio::{io::BufReader, sync::oneshot};
///
/// # let (_client, io) = tokio::io::duplex(64);
/// let connection = Connection::new("10.0.0.3:51234".parse()?);
/// let parcel = Parcel::new(io, b"GET / HT".to_vec(), connection);
///
/// // Who passes it on says how the one before learns that it was taken, and when it should be.
/// let (taken, is_taken) = oneshot::channel();
/// let claim = async move { taken.send(()).unwrap_or_default() };
/// let arrival = Arrival::new(parcel, claim).due_when(|_io, _cx| std::task::Poll::Ready(()));
///
/// // A listener may wrap the connection. Who serves it waits until it is due, and claims it.
/// let mut arrival = arrival.map(BufReader::new, BufReader::get_ref);
/// assert_eq!(arrival.protocol(), Protocol::HTTP);
/// assert_eq!(arrival.connection().requests(), 0);
/// arrival.due().await;
/// let parcel = arrival.claim().await;
/// is_taken.await?;
/// assert_eq!(parcel.unread, b"GET / HT");
/// # Ok(())
/// # }
/// ```
#[must_use = "an arrival that is dropped is refused"]
pub struct Arrival<Io> {
    parcel: Parcel<Io>,
    claim: Pin<Box<dyn Future<Output = ()> + Send>>,
    due: Option<Due<Io>>,
}

type Due<Io> = Box<dyn FnMut(&Io, &mut Context<'_>) -> Poll<()> + Send>;

impl<Io> Arrival<Io> {
    /// An offer, and the future that tells the predecessor that it was taken.
    pub fn new(parcel: Parcel<Io>, claim: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            parcel,
            claim: Box::pin(claim),
            due: None,
        }
    }

    /// Says when it should be claimed: when `due` is ready, which must not read.
    pub fn due_when(
        mut self,
        due: impl FnMut(&Io, &mut Context<'_>) -> Poll<()> + Send + 'static,
    ) -> Self {
        self.due = Some(Box::new(due));
        self
    }

    /// The same over what `into` makes of the connection, which is still `within` it.
    pub fn map<T>(
        self,
        into: impl FnOnce(Io) -> T,
        within: impl Fn(&T) -> &Io + Send + 'static,
    ) -> Arrival<T>
    where
        Io: 'static,
    {
        let due = self.due.map(|mut due| -> Due<T> {
            Box::new(move |io: &T, cx: &mut Context<'_>| due(within(io), cx))
        });
        Arrival {
            parcel: self.parcel.map(into),
            claim: self.claim,
            due,
        }
    }

    /// Ends when it should be claimed: at once, or, if the predecessor lets it wait, when its client
    /// has sent something or the predecessor asks for it.
    ///
    /// A serve loop may claim earlier, and does so when it drains. It must not wait for anything
    /// else meanwhile: once this has ended somebody may be waiting for an answer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn due(&mut self) {
        let this = self;
        poll_fn(move |cx| this.poll_due(cx)).await;
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(due) = &mut self.due {
            ready!(due(&self.parcel.io, cx));
            self.due = None;
        }
        Poll::Ready(())
    }

    /// What is known of the connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.parcel.connection
    }

    /// What is spoken on it; one of those that were declared by
    /// [`Accept::adopts`](super::Accept::adopts). The version is that of its state.
    pub fn protocol(&self) -> Protocol {
        self.parcel.protocol
    }

    /// Takes it: from here on it is this process's, and may be read.
    pub async fn claim(self) -> Parcel<Io> {
        self.claim.await;
        self.parcel
    }
}

impl<Io> fmt::Debug for Arrival<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Arrival")
            .field(&self.parcel.connection.peer())
            .finish()
    }
}
