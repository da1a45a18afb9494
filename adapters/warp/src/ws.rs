//! WebSockets that are told of a drain.
//!
//! ```
//! use handover::Draining;
//! use handover_warp::ws;
//! use warp::{Filter, ws::Ws};
//!
//! let chat = warp::path!("chat")
//!     .and(handover_warp::draining())
//!     .and(warp::ws())
//!     .map(|draining: Draining, upgrade: Ws| {
//!         upgrade.on_upgrade(async move |socket| {
//!             let mut socket = ws::graceful(socket, &draining);
//!             while let Some(Ok(message)) = socket.recv().await {
//!                 if socket.send(message).await.is_err() {
//!                     return;
//!                 }
//!             }
//!         })
//!     });
//! # let _ = warp::service(chat);
//! ```

use handover::{Close, ClosePolicy, Draining};
use warp::ws::{Message, WebSocket};

/// A warp WebSocket that is told to go: see [`graceful`].
pub type GracefulSocket = handover_hyper::websocket::WebSocket<WebSocket, Message>;

/// This WebSocket, used like warp's, but that it is told to go when its server drains.
///
/// At its [turn](handover::Turn) the client gets a close frame: code 1012 where a successor serves,
/// 1001 where none does, and a reason that says when to come back. What it had sent before it saw
/// that can still be received. Then the socket ends, with the client's answer or after 5 s. Go on
/// reading from it until it does: that is also how it notices the drain.
///
/// While it is open it holds the drain open, and is listed by peer and path, as a
/// [`Kind::WebSocket`](handover::Kind::WebSocket).
///
/// # Examples
///
/// ```
/// use handover::Draining;
/// use handover_warp::ws;
/// use warp::ws::WebSocket;
///
/// /// Echoes what is said.
/// async fn echo(socket: WebSocket, draining: Draining) {
///     let mut socket = ws::graceful(socket, &draining);
///     while let Some(Ok(message)) = socket.recv().await {
///         if message.is_text() && socket.send(message).await.is_err() {
///             return;
///         }
///     }
/// }
/// ```
pub fn graceful(socket: WebSocket, draining: &Draining) -> GracefulSocket {
    graceful_with(socket, draining, ClosePolicy::default())
}

/// The same with another code, reason, or time to answer.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use handover::{ClosePolicy, Draining};
/// use handover_warp::ws;
/// use warp::ws::WebSocket;
///
/// async fn ticker(socket: WebSocket, draining: Draining) {
///     let policy = ClosePolicy::default()
///         .with_reason("a new release")
///         .with_limit(Duration::from_secs(1));
///     let mut socket = ws::graceful_with(socket, &draining, policy);
///     while let Some(Ok(message)) = socket.recv().await {
///         println!("{message:?}");
///     }
/// }
/// ```
pub fn graceful_with(
    socket: WebSocket,
    draining: &Draining,
    policy: ClosePolicy,
) -> GracefulSocket {
    GracefulSocket::new(socket, draining.closing(policy), message)
}

fn message(close: Close) -> Message {
    Message::close_with(close.code, close.reason)
}
