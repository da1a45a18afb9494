//! A framework's WebSocket, as one that is told of a drain.
//!
//! [`WebSocket`] stands around the WebSocket of a framework (any `Stream` and `Sink` of one type of
//! messages) and is used like it. When it is its [turn](handover::Turn) it sends the close frame and
//! goes on handing out what the client had sent before it saw that, until the client has answered or
//! its time is over; then it ends. The adapters have it for their frameworks' types.
//!
//! # Invariants
//!
//! 1. Whoever reads waits for the turn, and sends the close. Whoever writes only looks whether it has
//!    come: the two halves may be used by two tasks, and the turn wakes one.
//! 2. Sending the close puts the reader's waker where the writer's was: a writer that waited is
//!    woken once the close has been handed on.
//! 3. A close that was begun is seen through, also when the handler has let go.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use handover::{Close, Closing};
use tokio::runtime::Handle;

/// What a framework's WebSocket is. Implemented for all that qualify.
///
/// # Examples
///
/// ```
/// use handover_hyper::websocket::{Socket, WebSocket};
///
/// /// Echoes over the WebSocket of any framework.
/// async fn echo<S: Socket<M>, M: Send + 'static>(mut socket: WebSocket<S, M>) -> Result<(), S::Error> {
///     while let Some(message) = socket.recv().await {
///         socket.send(message?).await?;
///     }
///     Ok(())
/// }
/// ```
pub trait Socket<M>:
    Stream<Item = Result<M, <Self as Sink<M>>::Error>> + Sink<M> + Unpin + Send + 'static
{
}

impl<S, M> Socket<M> for S where
    S: Stream<Item = Result<M, <S as Sink<M>>::Error>> + Sink<M> + Unpin + Send + 'static
{
}

/// A WebSocket that is told to go when its server drains. See the [module](self).
///
/// Go on reading while it is open: that is how it notices. A message that is sent once the close has
/// [begun](Self::is_closing) fails, as the protocol has it; what the client had sent before it saw the
/// close can still be received then. After the end nothing comes any more, and it is to be dropped.
///
/// # Examples
///
/// ```
/// use handover::{ClosePolicy, Draining};
/// use handover_hyper::websocket::{Socket, WebSocket};
///
/// /// A message of some framework's.
/// enum Message {
///     Text(String),
///     Close { code: u16, reason: String },
/// }
///
/// /// That framework's WebSockets, as ones that are told to go.
/// fn graceful<S: Socket<Message>>(socket: S, draining: &Draining) -> WebSocket<S, Message> {
///     let closing = draining.closing(ClosePolicy::default());
///     WebSocket::new(socket, closing, |close| Message::Close {
///         code: close.code,
///         reason: close.reason,
///     })
/// }
///
/// /// Greets each second, and leaves the rest to who reads.
/// async fn greet<S: Socket<Message>>(mut socket: WebSocket<S, Message>) -> Result<(), S::Error> {
///     while !socket.is_closing() && socket.get_ref().is_some() {
///         socket.send(Message::Text("hello".to_owned())).await?;
///         if socket.recv().await.transpose()?.is_none() {
///             break;
///         }
///     }
///     Ok(())
/// }
/// ```
#[must_use = "a WebSocket that is dropped is closed"]
pub struct WebSocket<S: Socket<M>, M: Send + 'static> {
    // `None` only while it is dropped.
    live: Option<Live<S, M>>,
}

struct Live<S, M> {
    inner: S,
    closing: Closing,
    message: fn(Close) -> M,
    goodbye: Goodbye<M>,
    // The closing handshake has ended, or its time.
    over: bool,
    // It has not been one that was kept to.
    failed: bool,
    writer: Option<Waker>,
}

enum Goodbye<M> {
    Unsaid,
    Saying(M),
    Flushing,
    Said,
}

impl<S: Socket<M>, M: Send + 'static> WebSocket<S, M> {
    /// Tells this WebSocket what `closing` says, when it says so, in a message made by `message`.
    pub fn new(inner: S, closing: Closing, message: fn(Close) -> M) -> Self {
        Self {
            live: Some(Live {
                inner,
                closing,
                message,
                goodbye: Goodbye::Unsaid,
                over: false,
                failed: false,
                writer: None,
            }),
        }
    }

    /// Receives the next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// As the framework's own.
    ///
    /// # Cancel safety
    ///
    /// A message that was not returned is returned by the next call.
    pub async fn recv(&mut self) -> Option<Result<M, S::Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// As the framework's own: also once the close has begun.
    pub async fn send(&mut self, message: M) -> Result<(), S::Error> {
        poll_fn(|cx| Pin::new(&mut *self).poll_ready(cx)).await?;
        Pin::new(&mut *self).start_send(message)?;
        poll_fn(|cx| Pin::new(&mut *self).poll_flush(cx)).await
    }

    /// Whether the client has been told to go.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.closing.is_told())
    }

    /// The framework's own.
    pub fn get_ref(&self) -> Option<&S> {
        self.live.as_ref().map(|live| &live.inner)
    }
}

impl<S: Socket<M>, M> Live<S, M> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(close) = self.closing.poll_due(cx) {
            self.begin(close);
        }
        self.poll_goodbye(cx);
        if self.closing.poll_limit(cx).is_ready() {
            // What we had to say has been said, if the client has taken it.
            self.failed |= !matches!(self.goodbye, Goodbye::Said);
            self.end();
            return Poll::Ready(None);
        }
        let item = ready!(Pin::new(&mut self.inner).poll_next(cx));
        match &item {
            Some(got) => {
                self.failed |= got.is_err();
                self.closing.touch();
            }
            None => self.end(),
        }
        Poll::Ready(item)
    }

    fn begin(&mut self, close: Close) {
        self.goodbye = Goodbye::Saying((self.message)(close));
    }

    fn end(&mut self) {
        self.over = true;
        if !self.failed {
            self.closing.end_well();
        }
        self.wake_the_writer();
    }

    fn wake_the_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Sends the close, if it is to be sent. Errors are the reader's to see.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) {
        if let Goodbye::Saying(_) = self.goodbye {
            let Poll::Ready(ready) = Pin::new(&mut self.inner).poll_ready(cx) else {
                return;
            };
            let goodbye = std::mem::replace(&mut self.goodbye, Goodbye::Said);
            if let (Ok(()), Goodbye::Saying(message)) = (ready, goodbye)
                && Pin::new(&mut self.inner).start_send(message).is_ok()
            {
                self.goodbye = Goodbye::Flushing;
            }
            self.wake_the_writer();
        }
        if let Goodbye::Flushing = self.goodbye
            && Pin::new(&mut self.inner).poll_flush(cx).is_ready()
        {
            self.goodbye = Goodbye::Said;
            self.wake_the_writer();
        }
    }

    /// Polls what a writer wants.
    fn poll_out(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<Result<(), S::Error>>,
    ) -> Poll<Result<(), S::Error>> {
        // Nobody reads any more: what follows fails, or has nowhere to go.
        if self.over {
            return Poll::Ready(Ok(()));
        }
        let polled = poll(Pin::new(&mut self.inner), cx);
        if polled.is_pending() {
            self.writer = Some(cx.waker().clone());
        }
        polled
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if let Some(close) = self.closing.take_due() {
            self.begin(close);
        }
        self.poll_goodbye(cx);
        if let (false, Goodbye::Saying(_)) = (self.over, &self.goodbye) {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.poll_out(cx, S::poll_ready)
    }
}

impl<S: Socket<M>, M: Send + 'static> Stream for WebSocket<S, M> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        match &mut self.get_mut().live {
            Some(live) => live.poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

// Nothing in it is ever pinned.
impl<S: Socket<M>, M: Send + 'static> Unpin for WebSocket<S, M> {}

impl<S: Socket<M>, M: Send + 'static> Sink<M> for WebSocket<S, M> {
    type Error = S::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match &mut self.get_mut().live {
            Some(live) => live.poll_ready(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), S::Error> {
        match &mut self.get_mut().live {
            Some(live) => Pin::new(&mut live.inner).start_send(message),
            None => Ok(()),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match &mut self.get_mut().live {
            Some(live) => live.poll_out(cx, S::poll_flush),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match &mut self.get_mut().live {
            Some(live) => live.poll_out(cx, S::poll_close),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<S: Socket<M>, M: Send + 'static> Drop for WebSocket<S, M> {
    fn drop(&mut self) {
        let Some(mut live) = self.live.take() else {
            return;
        };
        // A connection that is dropped with the client's last words unread is reset, and the client
        // never sees the close.
        if live.closing.is_told()
            && !live.over
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                while let Some(Ok(_)) = poll_fn(|cx| live.poll_next(cx)).await {}
            });
        }
    }
}

impl<S: Socket<M>, M: Send + 'static> fmt::Debug for WebSocket<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("closing", &self.live.as_ref().map(|live| &live.closing))
            .finish_non_exhaustive()
    }
}
