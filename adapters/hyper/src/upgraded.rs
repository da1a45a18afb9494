//! What becomes of a connection when it has left HTTP.

use std::{error::Error, fmt};

use handover::accept::{Movable, Protocol};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::io::ConnIo;

/// Makes an upgraded connection, such as a WebSocket, one that can move to the successor. `Io` is
/// that of the listener: [`handover::Stream`] for a generation's.
///
/// What the client has sent after its request, and was read with it, is read first. The connection
/// holds the drain open as before, until it is dropped or has moved. A serve loop adopts it that
/// has a handler for the protocol, by [`Serve::adopt`](crate::Serve::adopt).
///
/// # Errors
///
/// If this was not upgraded over HTTP/1 by this serve loop, on a listener with that `Io`. Over
/// HTTP/2 a WebSocket is a stream among others, and cannot move.
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
///
/// use handover::accept::{Movable, Protocol};
/// use handover_hyper::{RequestBody, movable};
/// use http::{Request, Response, StatusCode};
/// use tokio::net::TcpStream;
///
/// const CHAT: Protocol = Protocol::new("chat", 1);
///
/// async fn chat(session: Movable<TcpStream>) {
///     println!("a session with {}", session.peer());
/// }
///
/// /// Answers `Upgrade: chat`. In the successor, `Serve::adopt` has `chat` go on.
/// async fn upgrade(mut request: Request<RequestBody>) -> Result<Response<String>, Infallible> {
///     let upgrade = hyper::upgrade::on(&mut request);
///     tokio::spawn(async move {
///         let Ok(upgraded) = upgrade.await else { return };
///         match movable(upgraded, CHAT) {
///             Ok(session) => chat(session).await,
///             Err(why) => eprintln!("{why}"),
///         }
///     });
///     let mut response = Response::new(String::new());
///     *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
///     Ok(response)
/// }
/// ```
pub fn movable<Io>(upgraded: Upgraded, protocol: Protocol) -> Result<Movable<Io>, NotMovable>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match upgraded.downcast::<TokioIo<ConnIo<Io>>>() {
        Ok(parts) => {
            let io = parts.io.into_inner();
            io.into_movable(parts.read_buf, protocol)
                .ok_or(NotMovable::Drained)
        }
        Err(upgraded) => Err(NotMovable::Foreign(upgraded)),
    }
}

/// Why an upgraded connection cannot move. Returned by [`movable`].
///
/// # Examples
///
/// ```
/// use handover::accept::{Movable, Protocol};
/// use handover_hyper::{NotMovable, movable};
/// use hyper::upgrade::Upgraded;
/// use tokio::net::TcpStream;
///
/// /// A session as it can be served: one that moves, or one that stays.
/// enum Session {
///     Moves(Movable<TcpStream>),
///     Stays(Upgraded),
/// }
///
/// fn session(upgraded: Upgraded) -> Option<Session> {
///     match movable(upgraded, Protocol::new("chat", 1)) {
///         Ok(session) => Some(Session::Moves(session)),
///         Err(NotMovable::Foreign(upgraded)) => Some(Session::Stays(upgraded)),
///         Err(_) => None,
///     }
/// }
/// ```
#[non_exhaustive]
pub enum NotMovable {
    /// It is not an HTTP/1 connection of this serve loop, or its IO is of another type. It can be
    /// served, where it is.
    Foreign(Upgraded),
    /// The drain is over: the connection was closed.
    Drained,
}

impl fmt::Debug for NotMovable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign(_) => "Foreign",
            Self::Drained => "Drained",
        })
    }
}

impl fmt::Display for NotMovable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign(_) => {
                "the upgraded connection is not one of HTTP/1 on a listener of this type, and cannot move"
            }
            Self::Drained => "the upgraded connection came when the drain was over, and was closed",
        })
    }
}

impl Error for NotMovable {}
