use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{Asked, InFlight, ResponseBody, Watch, asked::EVENTS};

pin_project! {
    /// Response future of [`GracefulService`](super::GracefulService), and of serve loops, which see
    /// their requests through themselves.
    ///
    /// # Examples
    ///
    /// A serve loop that makes one of a service's future and of what it knows of the request:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::{convert::Infallible, task::{Context, Poll}};
    ///
    /// use handover::{Guard, Graceful, layer::{InFlight, ResponseFuture}};
    /// use http::{HeaderValue, Response, header::CONNECTION};
    ///
    /// /// A request of a loop whose connection is woken at the cut, and polls it then.
    /// struct Request(Guard);
    ///
    /// impl InFlight for Request {
    ///     fn poll_cut(&mut self, _: &mut Context<'_>) -> Poll<()> {
    ///         match self.0.phase() >= handover::Phase::Cutting {
    ///             true => Poll::Ready(()),
    ///             false => Poll::Pending,
    ///         }
    ///     }
    ///
    ///     fn answer<B>(&mut self, response: &mut Response<B>) {
    ///         if self.0.phase() != handover::Phase::Running {
    ///             response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    ///         }
    ///     }
    /// }
    ///
    /// let graceful = Graceful::new();
    /// let guard = graceful.guard().expect("the drain is not over");
    /// graceful.drain();
    /// let handler = async { Ok::<_, Infallible>(Response::new(String::from("hello"))) };
    /// let response = ResponseFuture::new(handler, Request(guard)).await.unwrap();
    /// assert_eq!(response.headers()[CONNECTION], "close");
    /// assert!(graceful.report().is_none(), "the body is to come");
    /// drop(response);
    /// assert!(graceful.report().is_some());
    /// # }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, W = Watch> {
        #[pin]
        state: State<F>,
        // Until the head of the response is out; then the body carries it, so that a drain waits
        // for the last byte, and a disconnect ends the wait early.
        in_flight: Option<W>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] inner: F },
        Refused { retry_after: Option<Duration>, asked: Asked },
    }
}

impl<F, W: InFlight> ResponseFuture<F, W> {
    /// A request in flight.
    #[inline]
    pub fn new(inner: F, in_flight: W) -> Self {
        Self {
            state: State::Called { inner },
            in_flight: Some(in_flight),
        }
    }
}

impl<F> ResponseFuture<F> {
    /// A request that somebody else sees through.
    #[inline]
    pub(super) fn elsewhere(inner: F) -> Self {
        Self {
            state: State::Called { inner },
            in_flight: None,
        }
    }

    pub(super) fn refuse(retry_after: Option<Duration>, asked: Asked) -> Self {
        Self {
            state: State::Refused { retry_after, asked },
            in_flight: None,
        }
    }
}

impl<F, W, B, E> Future for ResponseFuture<F, W>
where
    F: Future<Output = Result<Response<B>, E>>,
    W: InFlight,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B, W>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let response = match this.state.as_mut().project() {
            StateProj::Refused { retry_after, asked } => {
                let response = unavailable(*retry_after, *asked, None);
                return Poll::Ready(Ok(response));
            }
            StateProj::Called { inner } => match inner.poll(cx) {
                Poll::Ready(response) => response,
                Poll::Pending if is_cut(this.in_flight, cx) => {
                    let in_flight = this.in_flight.take();
                    let asked = in_flight.as_ref().map(W::asked).unwrap_or_default();
                    // The handler is dropped here, before the client is told: what it held is
                    // free by the time of a retry.
                    let retry_after = None;
                    this.state.set(State::Refused { retry_after, asked });
                    let response = unavailable(retry_after, asked, in_flight);
                    return Poll::Ready(Ok(response));
                }
                Poll::Pending => return Poll::Pending,
            },
        };
        let mut in_flight = this.in_flight.take();
        let mut response = response?;
        if let Some(in_flight) = &mut in_flight {
            in_flight.answer(&mut response);
        }
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, in_flight))))
    }
}

fn is_cut<W: InFlight>(in_flight: &mut Option<W>, cx: &mut Context<'_>) -> bool {
    let in_flight = in_flight.as_mut();
    in_flight.is_some_and(|in_flight| in_flight.poll_cut(cx).is_ready())
}

impl<F, W: fmt::Debug> fmt::Debug for ResponseFuture<F, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

/// Tells an HTTP/1 client, whose request was of this version, that this is the last answer on its
/// connection. For serve loops; an answer that leaves HTTP stays as it is.
///
/// # Examples
///
/// ```
/// use handover::layer::announce_to;
/// use http::{Response, Version};
///
/// let mut answer = Response::new(());
/// announce_to(&mut answer, Version::HTTP_11);
/// assert_eq!(answer.headers()["connection"], "close");
/// ```
pub fn announce_to<B>(response: &mut Response<B>, version: Version) {
    // A 101 keeps its `Connection: upgrade`: WebSocket clients insist on that alone.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    if version < Version::HTTP_11 {
        // To one of 1.1 hyper would add "keep-alive" for such a client, and close all the same.
        *response.version_mut() = Version::HTTP_10;
    }
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

fn unavailable<B: Body, W>(
    retry_after: Option<Duration>,
    asked: Asked,
    in_flight: Option<W>,
) -> Response<ResponseBody<B, W>> {
    let mut response = Response::new(ResponseBody::empty(in_flight));
    if asked.for_events() {
        // The end of a stream is what makes an `EventSource` come back.
        let events = HeaderValue::from_static(EVENTS);
        response.headers_mut().insert(CONTENT_TYPE, events);
    } else {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        if let Some(time) = retry_after {
            let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
    }
    announce_to(&mut response, asked.version());
    response
}
