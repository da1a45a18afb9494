//! Streams and bodies that end with their turn.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::Turn;

pin_project! {
    /// A stream, or a body, that ends cleanly when it is its client's turn to go.
    ///
    /// Made by [`Draining::until`](crate::Draining::until). What the inner one has ready at that
    /// moment is still handed out. It is for what the client can ask for again, or go on with
    /// elsewhere: it cannot tell this end from any other. A body must not have a `Content-Length`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use futures_util::{StreamExt, stream};
    /// use handover::{Draining, Graceful};
    ///
    /// let graceful = Graceful::new();
    /// let lines = stream::iter(["one", "two"]).chain(stream::pending());
    /// let mut lines = Draining::new(graceful.clone()).until(lines);
    /// assert_eq!(lines.next().await, Some("one"));
    /// graceful.drain();
    /// assert_eq!(lines.next().await, Some("two"));
    /// assert_eq!(lines.next().await, None);
    /// # }
    /// ```
    #[must_use = "streams do nothing unless polled"]
    pub struct UntilDrain<T> {
        // `None` once it has ended.
        #[pin]
        inner: Option<T>,
        // Likewise: one that has ended by itself has no turn.
        turn: Option<Turn>,
        // It has ended because its turn had come.
        told: bool,
    }
}

impl<T> UntilDrain<T> {
    pub(super) fn new(inner: T, turn: Turn) -> Self {
        Self {
            inner: Some(inner),
            turn: Some(turn),
            told: false,
        }
    }

    pub(super) fn was_told(&self) -> bool {
        self.told
    }

    /// `None` at the end, by itself or because the turn has come.
    fn poll_inner<I>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<Option<I>>,
    ) -> Poll<Option<I>> {
        let mut this = self.project();
        let (Some(inner), Some(turn)) = (this.inner.as_mut().as_pin_mut(), &mut *this.turn) else {
            return Poll::Ready(None);
        };
        let over = turn.poll(cx).is_ready();
        let polled = poll(inner, cx);
        match polled {
            Poll::Pending if !over => return Poll::Pending,
            Poll::Ready(Some(_)) => turn.touch(),
            _ => {}
        }
        let ended = matches!(polled, Poll::Ready(None));
        // One that always has something ends as well: after this.
        if over || ended {
            *this.told = !ended;
            this.inner.set(None);
            *this.turn = None;
        }
        match polled {
            Poll::Pending => Poll::Ready(None),
            ready => ready,
        }
    }
}

impl<S: Stream> Stream for UntilDrain<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.poll_inner(cx, S::poll_next)
    }
}

impl<B: Body> Body for UntilDrain<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.poll_inner(cx, B::poll_frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    /// At most what the inner one has.
    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        // An exact size would be sent as a `Content-Length`, which an early end breaks.
        if self.is_end_stream() {
            hint.set_exact(0);
        }
        hint
    }
}

impl<T> fmt::Debug for UntilDrain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntilDrain")
            .field("ended", &self.inner.is_none())
            .finish_non_exhaustive()
    }
}
