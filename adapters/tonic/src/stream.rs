//! A server stream that ends when its server drains.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use handover::{Graceful, Phase, Turn};
use pin_project_lite::pin_project;
use tonic::Status;

use crate::{
    moment::{Moment, When},
    status::server_draining,
};

/// When clients may come back, unless it is said otherwise: at once. Their ends are spread already.
const RETRY_AFTER: Duration = Duration::ZERO;

pin_project! {
    /// A stream of messages that ends, between two of them, when its server drains.
    ///
    /// For streams that have no end of their own, such as subscriptions. Its client gets
    /// `UNAVAILABLE` "server draining", in trailers, with a `RetryInfo` in its details, and opens the
    /// stream again, on a connection to another server or to the successor: it has been told by
    /// GOAWAY. Not all streams end at once: each has its [turn](Graceful::turn), and a
    /// [policy](handover::Policy::with_close_spread) says over how long they are spread.
    ///
    /// A message that the stream has ready is still sent before the end. A stream that is begun in a
    /// drain ends when the announce window is over.
    ///
    /// ```
    /// use futures_util::{Stream, stream};
    /// use handover_tonic::EndOnDrain;
    /// use tonic::{Request, Response, Status};
    ///
    /// type Ticks = EndOnDrain<stream::Pending<Result<u64, Status>>>;
    ///
    /// async fn ticks(request: Request<()>) -> Result<Response<Ticks>, Status> {
    ///     let ticks = stream::pending();
    ///     let graceful = handover_tonic::graceful(&request);
    ///     Ok(Response::new(EndOnDrain::new(ticks, &graceful)))
    /// }
    /// ```
    #[must_use = "streams do nothing unless polled"]
    pub struct EndOnDrain<S> {
        #[pin]
        inner: Option<S>,
        end: End,
        retry_after: Duration,
        // The client has been told, and there is no more.
        over: bool,
    }
}

/// When the stream is to end.
enum End {
    Turn(Turn),
    /// It was begun in a drain.
    Late(Box<Moment>),
}

impl End {
    fn of(graceful: &Graceful) -> Self {
        match graceful.phase() < Phase::Draining {
            true => Self::Turn(graceful.turn()),
            false => Self::Late(Box::new(Moment::new(graceful, When::AfterTheWindow))),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Turn(turn) => turn.poll(cx),
            Self::Late(moment) => moment.poll(cx),
        }
    }
}

impl<S> EndOnDrain<S> {
    /// Ends the stream when this drains.
    pub fn new(stream: S, graceful: &Graceful) -> Self {
        Self {
            inner: Some(stream),
            end: End::of(graceful),
            retry_after: RETRY_AFTER,
            over: false,
        }
    }

    /// After which time the client may come back. Default zero.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::time::Duration;
    ///
    /// use futures_util::{StreamExt, stream};
    /// use handover::Graceful;
    /// use handover_tonic::EndOnDrain;
    /// use tonic::{Code, Status};
    ///
    /// let graceful = Graceful::new();
    /// let ticks = stream::pending::<Result<u64, Status>>();
    /// let mut ticks = EndOnDrain::new(ticks, &graceful).retry_after(Duration::from_secs(2));
    /// let _call = graceful.guard();
    /// graceful.drain();
    /// let end = ticks.next().await.expect("a stream ends with a status").unwrap_err();
    /// assert_eq!(end.code(), Code::Unavailable);
    /// # }
    /// ```
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = time;
        self
    }
}

impl<S, T> Stream for EndOnDrain<S>
where
    S: Stream<Item = Result<T, Status>>,
{
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            *this.over = true;
            return Poll::Ready(Some(Err(server_draining(*this.retry_after))));
        };
        let ends = this.end.poll(cx).is_ready();
        match inner.poll_next(cx) {
            // One that always has a message ends as well: after this one.
            Poll::Ready(Some(Ok(message))) => {
                if let End::Turn(turn) = this.end {
                    turn.touch();
                }
                if ends {
                    this.inner.set(None);
                }
                Poll::Ready(Some(Ok(message)))
            }
            Poll::Pending if ends => {
                this.inner.set(None);
                *this.over = true;
                Poll::Ready(Some(Err(server_draining(*this.retry_after))))
            }
            Poll::Ready(end) => {
                *this.over = end.is_none();
                Poll::Ready(end)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S> fmt::Debug for EndOnDrain<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndOnDrain")
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}
