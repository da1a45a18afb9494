//! Streams of server-sent events that end as their clients understand it.
//!
//! An `EventSource` comes back, after the time in the last `retry:`, and with the last id that it has
//! seen, when its stream ends or breaks. A status other than 200 ends it for good.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::UntilDrain;
use crate::Turn;

pin_project! {
    /// A stream of server-sent events that ends when it is its client's turn to go: with a `retry:`
    /// field, a comment, and the clean end of the body.
    ///
    /// Made by [`Draining::events`](crate::Draining::events) of a body of the type
    /// `text/event-stream`, or of a stream of its bytes. An event that is sent in pieces and has come
    /// half is left half, which its client throws away and asks for again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::convert::Infallible;
    ///
    /// use bytes::Bytes;
    /// use futures_util::{StreamExt, stream};
    /// use handover::{Draining, Graceful};
    ///
    /// let graceful = Graceful::new();
    /// let events = stream::pending::<Result<Bytes, Infallible>>();
    /// let mut events = Draining::new(graceful.clone()).events(events);
    /// graceful.drain();
    /// let last = events.next().await.unwrap().unwrap();
    /// assert!(last.starts_with(b"retry: 1") && last.ends_with(b"\n: draining\n\n"));
    /// assert!(events.next().await.is_none());
    /// # }
    /// ```
    #[must_use = "streams do nothing unless polled"]
    pub struct EventsUntilDrain<T> {
        #[pin]
        inner: UntilDrain<T>,
        retry: Duration,
        text: Text,
        over: bool,
    }
}

/// Where in the text the last bytes have ended.
#[derive(Clone, Copy, Debug, Default)]
struct Text {
    place: Place,
    // With a carriage return: a newline that follows belongs to it.
    returned: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    BetweenEvents,
    /// At the beginning of a line of an event.
    Line,
    WithinLine,
}

impl Text {
    fn read(&mut self, bytes: &[u8]) {
        // Two ends of lines, of two bytes each, are all that matters.
        for byte in &bytes[bytes.len().saturating_sub(4)..] {
            match byte {
                b'\n' if self.returned => {}
                b'\n' | b'\r' => {
                    self.place = match self.place {
                        Place::WithinLine => Place::Line,
                        _ => Place::BetweenEvents,
                    }
                }
                _ => self.place = Place::WithinLine,
            }
            self.returned = *byte == b'\r';
        }
    }

    fn last_words(self, retry: Duration) -> Bytes {
        let words = last_words(retry);
        Bytes::from(match self.place {
            Place::BetweenEvents => words + "\n",
            // Without the empty line, which would make an event of what has come of it.
            Place::Line => words,
            Place::WithinLine => format!("\n{words}"),
        })
    }
}

/// What a client is told at the end.
pub(crate) fn last_words(retry: Duration) -> String {
    format!("retry: {}\n: draining\n", retry.as_millis())
}

impl<T> EventsUntilDrain<T> {
    pub(super) fn new(inner: T, turn: Turn, retry: Duration) -> Self {
        Self {
            inner: UntilDrain::new(inner, turn),
            retry,
            text: Text::default(),
            over: false,
        }
    }

    /// After which time the client is to come back. By default as the policy says.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::{convert::Infallible, time::Duration};
    ///
    /// use futures_util::{StreamExt, stream};
    /// use handover::{Draining, Graceful};
    ///
    /// let graceful = Graceful::new();
    /// let events = stream::pending::<Result<&[u8], Infallible>>();
    /// let mut events = Draining::new(graceful.clone()).events(events).retry(Duration::from_secs(30));
    /// graceful.drain();
    /// let last = events.next().await.unwrap().unwrap();
    /// assert!(last.starts_with(b"retry: 30000\n"));
    /// # }
    /// ```
    pub fn retry(mut self, time: Duration) -> Self {
        self.retry = time;
        self
    }
}

impl<T> EventsUntilDrain<T> {
    /// Once the inner one has ended.
    fn end(self: Pin<&mut Self>) -> Option<Bytes> {
        let this = self.project();
        let told = this.inner.was_told() && !*this.over;
        *this.over = true;
        told.then(|| this.text.last_words(*this.retry))
    }
}

impl<S, D, E> Stream for EventsUntilDrain<S>
where
    S: Stream<Item = Result<D, E>>,
    D: Buf,
{
    type Item = Result<Bytes, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.as_mut().project();
        Poll::Ready(match ready!(this.inner.poll_next(cx)) {
            Some(Ok(mut data)) => {
                let bytes = data.copy_to_bytes(data.remaining());
                this.text.read(&bytes);
                Some(Ok(bytes))
            }
            Some(Err(error)) => Some(Err(error)),
            None => self.end().map(Ok),
        })
    }
}

impl<B: Body> Body for EventsUntilDrain<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.as_mut().project();
        Poll::Ready(match ready!(this.inner.poll_frame(cx)) {
            Some(Ok(frame)) => {
                let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                if let Some(bytes) = frame.data_ref() {
                    this.text.read(bytes);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(error)),
            None => self.end().map(|words| Ok(Frame::data(words))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        match self.over {
            true => SizeHint::with_exact(0),
            false => SizeHint::new(),
        }
    }
}

impl<T> fmt::Debug for EventsUntilDrain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventsUntilDrain")
            .field("retry", &self.retry)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
