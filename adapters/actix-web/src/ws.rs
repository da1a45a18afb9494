//! WebSockets of `actix-ws` that are told of a drain.
//!
//! ```
//! use actix_web::{Error, HttpRequest, HttpResponse, rt, web};
//! use actix_ws::Message;
//! use handover_actix_web::{Draining, ws};
//!
//! async fn chat(
//!     request: HttpRequest,
//!     body: web::Payload,
//!     draining: Draining,
//! ) -> Result<HttpResponse, Error> {
//!     let (response, mut session, messages) = actix_ws::handle(&request, body)?;
//!     let mut messages = ws::graceful(messages, &session, &draining);
//!     rt::spawn(async move {
//!         while let Some(Ok(message)) = messages.recv().await {
//!             if let Message::Text(text) = message
//!                 && session.text(text).await.is_err()
//!             {
//!                 return;
//!             }
//!         }
//!     });
//!     Ok(response)
//! }
//! ```

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_ws::{
    AggregatedMessage, AggregatedMessageStream, CloseReason, Message, MessageStream, ProtocolError,
    Session,
};
use futures_core::Stream;
use futures_sink::Sink;
use handover::{Close, ClosePolicy, Closing, Draining};

/// A stream of messages of actix-ws: [`MessageStream`] or [`AggregatedMessageStream`].
///
/// # Examples
///
/// ```
/// use actix_ws::ProtocolError;
/// use handover_actix_web::ws::{GracefulMessages, Messages};
///
/// /// How many messages came before the client's close, whole or in pieces.
/// async fn count<S: Messages>(mut messages: GracefulMessages<S>) -> Result<usize, ProtocolError> {
///     let mut count = 0;
///     while let Some(message) = messages.recv().await.transpose()? {
///         if S::is_close(&message) {
///             break;
///         }
///         count += 1;
///     }
///     Ok(count)
/// }
/// ```
pub trait Messages: Stream<Item = Result<Self::Message, ProtocolError>> + Unpin {
    /// What it yields.
    type Message;

    /// Whether this is the client's close.
    fn is_close(message: &Self::Message) -> bool;
}

impl Messages for MessageStream {
    type Message = Message;

    fn is_close(message: &Message) -> bool {
        matches!(message, Message::Close(_))
    }
}

impl Messages for AggregatedMessageStream {
    type Message = AggregatedMessage;

    fn is_close(message: &AggregatedMessage) -> bool {
        matches!(message, AggregatedMessage::Close(_))
    }
}

/// These messages, used like actix-ws' own, but that their client is told to go when the server
/// drains.
///
/// At its [turn](handover::Turn) the client gets a close frame: code 1012 where a successor serves,
/// 1001 where none does, and a reason that says when to come back. What is sent over the session from
/// then on fails. What the client had sent before it saw that can still be received. Then the messages
/// end, with the client's answer or after 5 s. Go on reading until they do: that is also how the drain
/// is noticed.
///
/// While they are read the WebSocket is listed by peer and path, as a
/// [`Kind::WebSocket`](handover::Kind::WebSocket); its connection holds the drain open.
///
/// # Examples
///
/// ```
/// use actix_ws::{Message, MessageStream, Session};
/// use handover_actix_web::{Draining, ws};
///
/// /// Echoes what is said.
/// async fn echo(messages: MessageStream, mut session: Session, draining: Draining) {
///     let mut messages = ws::graceful(messages, &session, &draining);
///     while let Some(Ok(message)) = messages.recv().await {
///         if let Message::Text(text) = message
///             && session.text(text).await.is_err()
///         {
///             return;
///         }
///     }
/// }
/// ```
pub fn graceful<S: Messages>(
    messages: S,
    session: &Session,
    draining: &Draining,
) -> GracefulMessages<S> {
    graceful_with(messages, session, draining, ClosePolicy::default())
}

/// The same with another code, reason, or time to answer.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use actix_ws::{AggregatedMessageStream, Session};
/// use handover::ClosePolicy;
/// use handover_actix_web::{Draining, ws};
///
/// async fn ticker(messages: AggregatedMessageStream, session: Session, draining: Draining) {
///     let policy = ClosePolicy::default()
///         .with_reason("a new release")
///         .with_limit(Duration::from_secs(1));
///     let mut messages = ws::graceful_with(messages, &session, &draining, policy);
///     while let Some(Ok(message)) = messages.recv().await {
///         println!("{message:?}");
///     }
/// }
/// ```
pub fn graceful_with<S: Messages>(
    messages: S,
    session: &Session,
    draining: &Draining,
    policy: ClosePolicy,
) -> GracefulMessages<S> {
    GracefulMessages {
        inner: messages,
        session: session.clone(),
        closing: draining.closing(policy),
        goodbye: None,
        over: false,
    }
}

/// Messages of a WebSocket that is told to go: see [`graceful`].
///
/// # Examples
///
/// ```
/// use actix_ws::{Message, MessageStream, Session};
/// use handover_actix_web::ws::GracefulMessages;
///
/// /// Answers as long as answers are of use.
/// async fn echo(mut messages: GracefulMessages<MessageStream>, mut session: Session) {
///     while let Some(Ok(message)) = messages.recv().await {
///         match message {
///             Message::Text(text) if !messages.is_closing() => {
///                 if session.text(text).await.is_err() {
///                     return;
///                 }
///             }
///             other => println!("not answered: {other:?}"),
///         }
///     }
/// }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct GracefulMessages<S> {
    inner: S,
    session: Session,
    closing: Closing,
    // Still to be sent.
    goodbye: Option<Message>,
    over: bool,
}

impl<S: Messages> GracefulMessages<S> {
    /// Receives the next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// As actix-ws' own.
    ///
    /// # Cancel safety
    ///
    /// A message that was not returned is returned by the next call.
    pub async fn recv(&mut self) -> Option<Result<S::Message, ProtocolError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Whether the client has been told to go.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.is_told()
    }

    /// Sends the close, if it is to be sent, as the last frame of all handles of the session.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) {
        if self.goodbye.is_none() {
            return;
        }
        let mut session = Pin::new(&mut self.session);
        // One that is closed already has nobody to be told.
        if let Poll::Ready(ready) = session.as_mut().poll_ready(cx)
            && let Some(message) = self.goodbye.take()
            && ready.is_ok()
            && session.as_mut().start_send(message).is_ok()
        {
            // Never pending: what was sent has been handed on.
            let _ = session.poll_close(cx);
        }
    }
}

impl<S: Messages> Stream for GracefulMessages<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(close) = this.closing.poll_due(cx) {
            this.goodbye = Some(message(close));
        }
        this.poll_goodbye(cx);
        if this.closing.poll_limit(cx).is_ready() {
            this.over = true;
            return Poll::Ready(None);
        }
        let item = ready!(Pin::new(&mut this.inner).poll_next(cx));
        match &item {
            Some(Ok(message)) if this.closing.is_told() && S::is_close(message) => {
                this.over = true;
            }
            Some(_) => this.closing.touch(),
            None => this.over = true,
        }
        Poll::Ready(item)
    }
}

fn message(close: Close) -> Message {
    Message::Close(Some(CloseReason {
        code: close.code.into(),
        description: Some(close.reason),
    }))
}

// Nothing in it is ever pinned.
impl<S> Unpin for GracefulMessages<S> {}

impl<S> fmt::Debug for GracefulMessages<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GracefulMessages")
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}
