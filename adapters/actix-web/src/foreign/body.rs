//! The body of an answer: its request is under way until it has ended, and it is broken off at the
//! cut.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use pin_project_lite::pin_project;

use super::{connection::InFlight, cut::Cut};

pin_project! {
    /// The body of an answer of an [`Application`](super::Application).
    ///
    /// # Examples
    ///
    /// ```
    /// use actix_web::body::{BodySize, MessageBody};
    /// use handover_actix_web::foreign::ResponseBody;
    ///
    /// /// Whether an answer says how long it is.
    /// fn is_sized<B: MessageBody>(body: &ResponseBody<B>) -> bool {
    ///     matches!(body.size(), BodySize::None | BodySize::Sized(_))
    /// }
    /// ```
    pub struct ResponseBody<B> {
        #[pin]
        inner: Inner<B>,
        in_flight: Option<InFlight>,
        cut: Cut,
    }
}

pin_project! {
    #[project = InnerProj]
    enum Inner<B> {
        Given { #[pin] body: B },
        // Of an error that the application has returned.
        Boxed { body: BoxBody },
        Empty,
    }
}

impl<B> ResponseBody<B> {
    fn new(inner: Inner<B>, in_flight: Option<InFlight>, cut: Cut) -> Self {
        Self {
            inner,
            in_flight,
            cut,
        }
    }

    pub(super) fn given(body: B, in_flight: Option<InFlight>, cut: Cut) -> Self {
        Self::new(Inner::Given { body }, in_flight, cut)
    }

    pub(super) fn boxed(body: BoxBody, in_flight: Option<InFlight>, cut: Cut) -> Self {
        Self::new(Inner::Boxed { body }, in_flight, cut)
    }

    pub(super) fn empty(in_flight: Option<InFlight>, cut: Cut) -> Self {
        Self::new(Inner::Empty, in_flight, cut)
    }
}

impl<B: MessageBody> MessageBody for ResponseBody<B> {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        match &self.inner {
            Inner::Given { body } => body.size(),
            Inner::Boxed { body } => body.size(),
            Inner::Empty => BodySize::Sized(0),
        }
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let mut this = self.project();
        let polled = match this.inner.as_mut().project() {
            InnerProj::Given { body } => body.poll_next(cx).map_err(Into::into),
            InnerProj::Boxed { body } => Pin::new(body).poll_next(cx),
            InnerProj::Empty => Poll::Ready(None),
        };
        match polled {
            Poll::Ready(Some(next)) => Poll::Ready(Some(next)),
            Poll::Ready(None) => {
                *this.in_flight = None;
                Poll::Ready(None)
            }
            Poll::Pending if this.cut.poll(cx).is_ready() => {
                this.inner.set(Inner::Empty);
                // An end would tell the client that it has received everything.
                let text = "response body cut off at the drain's deadline";
                let error = io::Error::new(io::ErrorKind::ConnectionAborted, text);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}
