//! A server stream that ends when its server drains.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use handover::Graceful;
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
    /// GOAWAY. Not all streams end at once: each ends at a random moment within the announce window
    /// of the drain's [`Policy`](handover::Policy), or a [shorter time](Self::spread).
    ///
    /// A message that the stream has ready is still sent before the end.
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
        graceful: Graceful,
        spread: Duration,
        retry_after: Duration,
        // From the first poll on.
        moment: Option<Moment>,
        // The client has been told, and there is no more.
        over: bool,
    }
}

impl<S> EndOnDrain<S> {
    /// Ends the stream when this drains.
    pub fn new(stream: S, graceful: &Graceful) -> Self {
        Self {
            inner: Some(stream),
            graceful: graceful.clone(),
            spread: Duration::MAX,
            retry_after: RETRY_AFTER,
            moment: None,
            over: false,
        }
    }

    /// Within which time of the drain's beginning to end; zero for at once. Never longer than the
    /// announce window.
    pub fn spread(mut self, time: Duration) -> Self {
        self.spread = time;
        self
    }

    /// After which time the client may come back. Default zero.
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
        let (graceful, when) = (&*this.graceful, When::Spread(*this.spread));
        let moment = this
            .moment
            .get_or_insert_with(|| Moment::new(graceful, when));
        let ends = moment.poll(cx).is_ready();
        match inner.poll_next(cx) {
            // One that always has a message ends as well: after this one.
            Poll::Ready(Some(Ok(message))) => {
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
            .field("spread", &self.spread)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}
