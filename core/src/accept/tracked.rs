//! A connection that a drain waits for, under a serve loop that knows nothing of drains.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Connection, held::Held};
use crate::{Graceful, Phase, Stays};

/// A connection that holds a drain open until it is dropped, and whose IO fails at the cut.
///
/// It works below any server, TLS and WebSockets included, because it is only IO: whatever waits
/// for this connection at the cut is woken and gets an error. What it cannot do is end a handler,
/// or a body that never ends, while the server does no IO: put [`GracefulLayer`](crate::GracefulLayer)
/// above it for that.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::{Connection, Graceful, Tracked};
/// use tokio::{io::AsyncWriteExt, net::{TcpListener, TcpStream}};
///
/// let graceful = Graceful::new();
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let _client = TcpStream::connect(listener.local_addr()?).await?;
/// let (io, peer) = listener.accept().await?;
///
/// let connection = Connection::new(peer.into());
/// let mut io = Tracked::new(io, connection, &graceful).map_err(|_| "the drain is over")?;
/// io.get_mut().set_nodelay(true)?;
/// assert!(io.get_ref().nodelay()?);
/// io.write_all(b"hello").await?;
/// assert_eq!(io.connection().traffic().sent, 5);
///
/// graceful.drain();
/// assert!(graceful.report().is_none(), "the connection holds it open");
/// drop(io);
/// assert!(graceful.drained().await.is_complete());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tracked<Io>(Held<Io>);

impl<Io> Tracked<Io> {
    /// Tracks a connection; gives it back if the drain is over.
    ///
    /// # Errors
    ///
    /// The connection, once nothing can hold the drain open any more.
    pub fn new(io: Io, connection: Arc<Connection>, graceful: &Graceful) -> Result<Self, Io> {
        match connection.hold(graceful) {
            Some(holder) => Ok(Self(Held::new(io, connection, holder))),
            None => Err(io),
        }
    }

    /// What is known of the connection.
    pub fn connection(&self) -> &Arc<Connection> {
        self.0.connection()
    }

    /// The connection below.
    pub fn get_ref(&self) -> &Io {
        self.0.get_ref()
    }

    /// The connection below.
    pub fn get_mut(&mut self) -> &mut Io {
        self.0.get_mut()
    }
}

impl<Io> Drop for Tracked<Io> {
    fn drop(&mut self) {
        // While it was served by a loop that does not let go of it, an upgrade had begun.
        if self.0.holder().phase() > Phase::Running
            && self.0.holder().count_stayed(Stays::Framework)
        {
            let (peer, why) = (self.connection().peer(), Stays::Framework);
            tracing::debug!(%peer, %why, "a connection was not moved");
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Tracked<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

forward_write!(Tracked, 0);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::Address;

    #[tokio::test]
    async fn what_has_passed_is_told_by_its_holder() {
        let graceful = Graceful::new();
        let (mut theirs, ours) = duplex(64);
        let connection = Connection::new(Address::Unix(None));
        let mut tracked = Tracked::new(ours, connection, &graceful).unwrap();
        theirs.write_all(b"hello").await.unwrap();
        tracked.read_exact(&mut [0; 5]).await.unwrap();
        tracked.write_all(b"bye").await.unwrap();
        let holders = graceful.holders();
        let traffic = holders[0].traffic.as_ref().unwrap();
        assert_eq!((traffic.received, traffic.sent), (5, 3));
        assert!(traffic.quiet.is_some());
        drop(tracked);
        assert!(graceful.holders().is_empty());
    }
}
