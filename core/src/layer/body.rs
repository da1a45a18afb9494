use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{InFlight, Watch};

pin_project! {
    /// Response body of [`GracefulService`](super::GracefulService): its request is in flight
    /// until it has ended or is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::layer::ResponseBody;
    /// use http::Response;
    ///
    /// /// The type of an answer in a middleware that stands around the layer.
    /// type Answer = Response<ResponseBody<http_body_util::Full<bytes::Bytes>>>;
    ///
    /// fn size(answer: &Answer) -> Option<u64> {
    ///     http_body::Body::size_hint(answer.body()).exact()
    /// }
    /// ```
    pub struct ResponseBody<B, W = Watch> {
        // Before what sees the request through, which may end the drain.
        #[pin]
        inner: Option<B>,
        in_flight: Option<W>,
    }
}

impl<B, W> ResponseBody<B, W> {
    pub(super) fn new(inner: B, in_flight: Option<W>) -> Self {
        Self {
            inner: Some(inner),
            in_flight,
        }
    }

    pub(super) fn empty(in_flight: Option<W>) -> Self {
        Self {
            inner: None,
            in_flight,
        }
    }
}

impl<B, W> Body for ResponseBody<B, W>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    W: InFlight,
{
    type Data = B::Data;
    /// The inner body's, or [`Cut`].
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let polled = match this.inner.as_mut().as_pin_mut() {
            Some(inner) => inner.poll_frame(cx),
            None => Poll::Ready(None),
        };
        match polled {
            Poll::Ready(Some(frame)) => Poll::Ready(Some(frame.map_err(Into::into))),
            Poll::Ready(None) => {
                if let Some(in_flight) = this.in_flight {
                    in_flight.end();
                }
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(in_flight) = this.in_flight else {
                    return Poll::Pending;
                };
                ready!(in_flight.poll_cut(cx));
                this.inner.set(None);
                Poll::Ready(Some(Err(Cut.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref().map(Body::size_hint);
        inner.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

impl<B, W: fmt::Debug> fmt::Debug for ResponseBody<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

/// The error of a [`ResponseBody`] that the drain's deadline cut off.
///
/// An error and not an end, because an end would tell the client that it has received everything.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::{convert::Infallible, pin::pin};
///
/// use handover::{Graceful, GracefulLayer, layer::Cut};
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, StreamBody};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// let graceful = Graceful::new();
/// let service = ServiceBuilder::new()
///     .layer(GracefulLayer::new(graceful.clone()))
///     .service(service_fn(async |_: Request<()>| {
///         let never = futures_util::stream::pending::<Result<http_body::Frame<&[u8]>, Infallible>>();
///         Ok::<_, Infallible>(Response::new(StreamBody::new(never)))
///     }));
/// let response = service.oneshot(Request::new(())).await.unwrap();
/// graceful.cut();
/// let error = pin!(response.into_body()).frame().await.unwrap().unwrap_err();
/// assert!(error.is::<Cut>());
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("response body cut off at the drain's deadline")
    }
}

impl Error for Cut {}
