//! The accept loop below a server that knows nothing of drains.

use std::{fmt, future::pending, io};

use tokio::sync::watch;

use super::{
    Accept, Address, Tracked,
    incoming::{Incoming, Next},
};
use crate::Graceful;

/// The connections of a listener, tracked. For the accept loop of a foreign server, which is ended
/// by its own shutdown signal and not by a drain.
///
/// In a drain nothing more comes, after what the kernel has queued; but if the drain is taken back,
/// accepting goes on. It holds the drain open until it is dropped, or has nothing more to accept.
///
/// # Examples
///
/// ```no_run
/// # async fn serve(_: handover::Tracked<tokio::net::TcpStream>) {}
/// # async fn example() -> std::io::Result<()> {
/// use handover::{Graceful, accept::TrackedIncoming};
///
/// let graceful = Graceful::new();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let mut incoming = TrackedIncoming::new(listener, &graceful);
/// let mut taken = incoming.taken();
/// loop {
///     tokio::select! {
///         (io, _peer) = incoming.next() => tokio::spawn(serve(io)),
///         () = taken.wait() => break,
///     };
/// }
/// # Ok(())
/// # }
/// ```
pub struct TrackedIncoming<A> {
    incoming: Incoming<A>,
    taken: watch::Sender<bool>,
}

impl<A: Accept> TrackedIncoming<A> {
    /// Tracks the connections of any listener.
    pub fn new(listener: A, graceful: &Graceful) -> Self {
        Self {
            incoming: Incoming::new(listener, graceful, &[]),
            taken: watch::Sender::new(false),
        }
    }

    /// The next connection, and where it comes from. Never ends once there will be no more.
    ///
    /// # Cancel safety
    ///
    /// A connection is either returned, or comes with the next call.
    pub async fn next(&mut self) -> (Tracked<A::Io>, Address) {
        while let Some(next) = self.incoming.next(true).await {
            // Nothing is given to who adopts nothing.
            let Next::Accepted(io, connection) = next else {
                continue;
            };
            let peer = connection.peer().clone();
            if let Ok(io) = Tracked::new(io, connection, self.incoming.graceful()) {
                return (io, peer);
            }
        }
        self.taken.send_replace(true);
        pending().await
    }

    /// Tells, from elsewhere, when there will be no more connections.
    #[must_use]
    pub fn taken(&self) -> Taken {
        Taken(self.taken.subscribe())
    }

    /// Where the listener listens.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` reports.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.incoming.get_ref().local_addr()
    }

    /// Whose drain it holds open.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use handover::{Graceful, accept::TrackedIncoming};
    /// use tokio::net::TcpListener;
    ///
    /// let graceful = Graceful::new();
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let incoming = TrackedIncoming::new(listener, &graceful);
    /// println!("listening on {}", incoming.local_addr()?);
    /// assert!(incoming.graceful().is_same_drain(&graceful));
    /// # Ok(())
    /// # }
    /// ```
    pub fn graceful(&self) -> &Graceful {
        self.incoming.graceful()
    }
}

/// When there will be no more connections; see [`TrackedIncoming::taken`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use handover::{Graceful, accept::TrackedIncoming};
/// use tokio::net::TcpListener;
///
/// let graceful = Graceful::new();
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut incoming = TrackedIncoming::new(listener, &graceful);
///
/// // The shutdown signal of a foreign server.
/// let mut taken = incoming.taken();
/// let signal = tokio::spawn(async move { taken.wait().await });
/// let accepting = tokio::spawn(async move { incoming.next().await });
/// graceful.drain();
/// signal.await?;
/// accepting.abort();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Taken(watch::Receiver<bool>);

impl Taken {
    /// Ends when the drain has come so far that there will be no more connections, and all that
    /// the kernel had queued have been taken; or when the [`TrackedIncoming`] is dropped. It takes a
    /// loop that polls [`TrackedIncoming::next`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn wait(&mut self) {
        // What is dropped takes no more, either.
        let _ = self.0.wait_for(|taken| *taken).await;
    }
}

impl<A> fmt::Debug for TrackedIncoming<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedIncoming")
            .field("incoming", &self.incoming)
            .finish_non_exhaustive()
    }
}
