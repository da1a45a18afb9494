//! The end of a connection that is not to look like the end of what it carried.

use std::{any::Any, io};

use tokio::net::TcpStream;

/// Has this connection end with a reset when it is dropped, where it is one over TCP: a [`TcpStream`] or
/// a `Stream` of a listener of ours. Of any other nothing is changed.
///
/// For an answer that was broken off and whose end is the connection's, as those are to clients of
/// HTTP/1.0. A plain end would tell such a client that it has all of it. What has been written and not
/// sent yet is lost.
///
/// # Errors
///
/// What `setsockopt(2)` reports.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use handover::accept::reset_when_dropped;
/// use tokio::{io::AsyncReadExt, net::{TcpListener, TcpStream}};
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (connection, _) = listener.accept().await?;
/// reset_when_dropped(&connection)?;
/// drop(connection);
/// let error = client.read_u8().await.unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
/// # Ok(())
/// # }
/// ```
pub fn reset_when_dropped(connection: &dyn Any) -> io::Result<()> {
    #[cfg(all(unix, feature = "process"))]
    if let Some(crate::Stream::Tcp(stream)) = connection.downcast_ref() {
        return stream.set_zero_linger();
    }
    match connection.downcast_ref::<TcpStream>() {
        Some(stream) => stream.set_zero_linger(),
        None => Ok(()),
    }
}

#[cfg(all(test, unix, feature = "process"))]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::Stream;

    #[tokio::test]
    async fn a_connection_of_our_listeners_is_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let connection = Stream::Tcp(listener.accept().await.unwrap().0);
        reset_when_dropped(&connection).unwrap();
        drop(connection);
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
