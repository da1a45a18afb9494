//! A connection of a program's own protocol, that can go to the next generation.
//!
//! # Invariants
//!
//! 1. A connection has one reader: it is read through its [`Movable`] alone, which is consumed when
//!    it is given away, and made of an arrival only when that has been claimed.
//! 2. What was read and not used comes back in the order in which it was sent: first what the user
//!    puts back, then what was never taken out.
//! 3. It holds the drain open at each moment, also while nobody knows yet whose it is.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{
    Address, Arrival, Connection, Mover, Parcel, Protocol,
    held::Held,
    replay::Replay,
    wish::{Kept, Wishes},
};
use crate::{Graceful, Holder, Stays};

/// A connection of a program's own protocol, that can be given to the successor in an upgrade.
///
/// It is read and written like any stream. It holds the drain open until it is dropped, and its IO
/// fails at the cut, as that of [`Tracked`](super::Tracked) does. The program serves it with a select between its
/// next message and what is [wished](Self::wishes) of it. When that is to move, and nothing is owed
/// either way, the program takes out of its buffers what it has read and not used, and
/// [gives](Self::give) the connection away, with what it knows of the session. In the successor it
/// comes out of [`Movables`](super::Movables), or goes to the handler that the serve loop has for
/// its protocol, and is served on.
///
/// | | |
/// |---|---|
/// | moves | the connection, what was read ahead, the program's state, when it was accepted |
/// | does not | what lies in a buffer of the program's and was not flushed; timers; tasks |
///
/// # Examples
///
/// ```no_run
/// use handover::{Stream, accept::{Movable, Wish}};
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
///
/// /// Numbers the lines that it is sent.
/// async fn serve(mut session: Movable<Stream>) -> std::io::Result<()> {
///     let state = session.take_state().unwrap_or_default();
///     let mut count = String::from_utf8_lossy(&state).parse().unwrap_or(0);
///     let mut wishes = session.wishes();
///     let mut reader = BufReader::new(session);
///     let mut line = Vec::new();
///     loop {
///         tokio::select! {
///             biased;
///             wish = wishes.next() => match wish {
///                 Wish::Move => {
///                     line.extend_from_slice(reader.buffer());
///                     let session = reader.into_inner();
///                     match session.give(line, count.to_string()).await {
///                         Ok(()) => return Ok(()),
///                         // It reads the half line again.
///                         Err(back) => reader = BufReader::new(back),
///                     }
///                     line = Vec::new();
///                 }
///                 Wish::Close => return Ok(()),
///                 _ => {}
///             },
///             read = reader.read_until(b'\n', &mut line) => {
///                 if read? == 0 {
///                     return Ok(());
///                 }
///                 count += 1;
///                 let answer = format!("{count} {}", String::from_utf8_lossy(&line));
///                 reader.write_all(answer.as_bytes()).await?;
///                 line.clear();
///             }
///         }
///     }
/// }
/// ```
pub struct Movable<Io> {
    held: Held<Io>,
    replay: Replay,
    state: Option<Vec<u8>>,
    version: u32,
    origin: Origin<Io>,
}

/// What a connection has from where it came from.
struct Origin<Io> {
    protocol: Protocol,
    graceful: Graceful,
    mover: Option<Arc<dyn Mover<Io>>>,
    kept: Arc<Kept>,
}

impl<Io: 'static> Movable<Io> {
    /// For serve loops: a connection that was accepted here, or has been claimed. It is given by
    /// `mover`, as one of `protocol`; without a mover it never moves.
    ///
    /// A parcel of HTTP is a connection that begins to speak `protocol` now.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use handover::{Connection, Graceful, accept::{Movable, Parcel, Protocol}};
    /// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    ///
    /// let graceful = Graceful::new();
    /// let connection = Connection::new("10.0.0.3:51234".parse()?);
    /// let holder = connection.hold(&graceful).expect("the drain is not over");
    /// let (mut client, io) = tokio::io::duplex(64);
    ///
    /// // Half a line had been read when it turned out what is spoken.
    /// let parcel = Parcel::new(io, b"hel".to_vec(), connection);
    /// let mut session = Movable::new(parcel, Protocol::new("lines", 2), &graceful, holder, None);
    /// assert_eq!(session.peer().to_string(), "10.0.0.3:51234");
    /// assert_eq!((session.protocol().name(), session.version()), ("lines", 2));
    /// assert_eq!(session.connection().requests(), 0);
    /// assert_eq!(session.take_state(), None, "it was accepted here");
    ///
    /// client.write_all(b"lo\n").await?;
    /// let mut line = String::new();
    /// BufReader::new(session).read_line(&mut line).await?;
    /// assert_eq!(line, "hello\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(
        parcel: Parcel<Io>,
        protocol: Protocol,
        graceful: &Graceful,
        holder: Holder,
        mover: Option<Arc<dyn Mover<Io>>>,
    ) -> Self {
        let origin = Origin {
            protocol,
            graceful: graceful.clone(),
            mover,
            kept: Arc::default(),
        };
        Self::of(parcel, holder, origin)
    }

    /// For serve loops: claims a connection, and makes it one that can move on.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use handover::{Connection, Graceful, accept::{Arrival, Movable, Parcel, Protocol}};
    ///
    /// const LINES: Protocol = Protocol::new("lines", 1);
    ///
    /// # let (_client, io) = tokio::io::duplex(64);
    /// # let parcel = Parcel::new(io, Vec::new(), Connection::new("10.0.0.3:51234".parse()?));
    /// # let arrival = Arrival::new(parcel.speaking(LINES, b"7".to_vec()), async {});
    /// // `arrival` has come by `Accept::poll_adopt`, with the state `7`.
    /// let graceful = Graceful::new();
    /// let holder = arrival.connection().hold(&graceful).expect("the drain is not over");
    /// let mut session = Movable::claim(arrival, LINES, &graceful, holder, None).await;
    /// assert_eq!(session.take_state().as_deref(), Some(&b"7"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn claim(
        arrival: Arrival<Io>,
        protocol: Protocol,
        graceful: &Graceful,
        holder: Holder,
        mover: Option<Arc<dyn Mover<Io>>>,
    ) -> Self {
        let parcel = arrival.claim().await;
        Self::new(parcel, protocol, graceful, holder, mover)
    }

    fn of(parcel: Parcel<Io>, holder: Holder, origin: Origin<Io>) -> Self {
        let Parcel {
            io,
            unread,
            connection,
            protocol,
            state,
            ..
        } = parcel;
        let has_state = protocol != Protocol::HTTP;
        Self {
            held: Held::new(io, connection, holder),
            replay: Replay::new(unread),
            state: has_state.then_some(state),
            version: if has_state {
                protocol.version()
            } else {
                origin.protocol.version()
            },
            origin,
        }
    }

    /// What the predecessor's program knew of it; once. `None` if it was accepted here.
    ///
    /// A connection that could not be moved has the state with which it was given.
    pub fn take_state(&mut self) -> Option<Vec<u8>> {
        self.state.take()
    }

    /// In which version its state is written; one of those that the [`Protocol`] adopts.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What is spoken on it.
    pub fn protocol(&self) -> Protocol {
        self.origin.protocol
    }

    /// Where it comes from.
    pub fn peer(&self) -> &Address {
        self.connection().peer()
    }

    /// What is known of it. It was accepted by whichever generation.
    pub fn connection(&self) -> &Arc<Connection> {
        self.held.connection()
    }

    /// The connection below, to ask its addresses. Read from it, and what is to be read again is out
    /// of its place.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::accept::Movable;
    /// use tokio::net::TcpStream;
    ///
    /// fn send_at_once(session: &Movable<TcpStream>) -> std::io::Result<()> {
    ///     session.get_ref().set_nodelay(true)
    /// }
    /// ```
    pub fn get_ref(&self) -> &Io {
        self.held.get_ref()
    }

    /// What a drain asks of this connection, whenever that changes.
    pub fn wishes(&self) -> Wishes {
        let Origin {
            graceful,
            mover,
            kept,
            ..
        } = &self.origin;
        Wishes::new(graceful, mover.is_some(), kept)
    }

    /// Gives the connection to the successor, with what was read from it and not used, and what is
    /// known of it. Once this has ended well the connection is the successor's.
    ///
    /// It may be given when nothing is owed either way: all that was written is flushed, and what
    /// has been read is either used or in `unread`.
    ///
    /// # Errors
    ///
    /// The connection itself, if it is this process's own again: the successor has refused it (it
    /// does not know the protocol, or not this version) or has died, there is none, or `unread` is
    /// longer than [`MAX_UNREAD`](super::MAX_UNREAD) or `state` than [`MAX_STATE`](super::MAX_STATE).
    /// It reads `unread` again and [has](Self::take_state) its state. In the same drain it is not
    /// wished to move a second time, but a second later to close.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropped, it closes the connection unless the successor takes it.
    pub async fn give(
        self,
        unread: impl Into<Vec<u8>>,
        state: impl Into<Vec<u8>>,
    ) -> Result<(), Self> {
        let Self {
            held,
            replay,
            origin,
            ..
        } = self;
        let (io, connection, holder) = held.into_parts();
        let word = holder.word();
        let mut unread = unread.into();
        unread.extend_from_slice(&replay.into_rest());
        let parcel = Parcel::new(io, unread, connection).speaking(origin.protocol, state.into());
        let given = match &origin.mover {
            Some(mover) if mover.is_open() => tokio::select! {
                biased;
                given = mover.give(parcel) => given,
                // What is with the successor now may still be taken there.
                () = holder.cutting() => Ok(()),
            },
            Some(_) => Err(parcel.staying(Stays::NoTaker)),
            None => Err(parcel.staying(Stays::Listener)),
        };
        let Err(parcel) = given else { return Ok(()) };
        let why = parcel.stays.unwrap_or(Stays::Refused);
        holder.count_stayed(why);
        let (peer, protocol) = (parcel.connection.peer(), origin.protocol);
        tracing::debug!(%peer, %protocol, %why, "a connection is not moved");
        origin.kept.keep(word);
        Err(Self::of(parcel, holder, origin))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Movable<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.replay.read(buf) {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut this.held).poll_read(cx, buf),
        }
    }
}

forward_write!(Movable, held);

impl<Io: 'static> fmt::Debug for Movable<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Movable")
            .field("protocol", &self.origin.protocol)
            .field("connection", self.connection())
            .finish_non_exhaustive()
    }
}
