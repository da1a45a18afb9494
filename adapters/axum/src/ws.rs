//! WebSockets that are told of a drain.
//!
//! ```
//! use axum::{Router, extract::WebSocketUpgrade, response::Response, routing::any};
//! use handover_axum::{Draining, ws};
//!
//! async fn chat(upgrade: WebSocketUpgrade, draining: Draining) -> Response {
//!     upgrade.on_upgrade(async move |socket| {
//!         let mut socket = ws::graceful(socket, &draining);
//!         while let Some(Ok(message)) = socket.recv().await {
//!             if socket.send(message).await.is_err() {
//!                 return;
//!             }
//!         }
//!     })
//! }
//!
//! let app: Router = Router::new().route("/chat", any(chat));
//! # let _ = app;
//! ```

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use handover::{Close, ClosePolicy, Draining};

/// An axum WebSocket that is told to go: see [`graceful`].
pub type GracefulSocket = handover_hyper::websocket::WebSocket<WebSocket, Message>;

/// This WebSocket, used like axum's, but that it is told to go when its server drains.
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
/// use axum::extract::ws::{Message, WebSocket};
/// use handover_axum::{Draining, ws};
///
/// /// Echoes what is said.
/// async fn echo(socket: WebSocket, draining: Draining) {
///     let mut socket = ws::graceful(socket, &draining);
///     while let Some(Ok(message)) = socket.recv().await {
///         if let Message::Text(text) = message
///             && socket.send(Message::Text(text)).await.is_err()
///         {
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
/// use axum::{extract::WebSocketUpgrade, response::Response};
/// use handover::ClosePolicy;
/// use handover_axum::{Draining, ws};
///
/// async fn ticker(upgrade: WebSocketUpgrade, draining: Draining) -> Response {
///     let policy = ClosePolicy::default()
///         .with_reason("a new release")
///         .with_limit(Duration::from_secs(1));
///     upgrade.on_upgrade(async move |socket| {
///         let mut socket = ws::graceful_with(socket, &draining, policy);
///         while let Some(Ok(message)) = socket.recv().await {
///             println!("{message:?}");
///         }
///     })
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
    Message::Close(Some(CloseFrame {
        code: close.code,
        reason: close.reason.into(),
    }))
}
