use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::watch::Watch;

pin_project! {
    /// Response body of [`GracefulService`](super::GracefulService): its request is in flight
    /// until it has ended or is dropped.
    pub struct ResponseBody<B> {
        #[pin]
        inner: Option<B>,
        watch: Watch,
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn new(inner: B) -> Self {
        Self {
            inner: Some(inner),
            watch: Watch::Over,
        }
    }

    pub(super) fn empty() -> Self {
        Self {
            inner: None,
            watch: Watch::Over,
        }
    }

    pub(super) fn with(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = B::Data;
    /// The inner body's, or [`Cut`].
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            *this.watch = Watch::Over;
            return Poll::Ready(None);
        };
        match inner.poll_frame(cx) {
            Poll::Ready(Some(frame)) => Poll::Ready(Some(frame.map_err(Into::into))),
            Poll::Ready(None) => {
                *this.watch = Watch::Over;
                Poll::Ready(None)
            }
            Poll::Pending if this.watch.poll_cut(cx).is_ready() => {
                this.inner.set(None);
                Poll::Ready(Some(Err(Cut.into())))
            }
            Poll::Pending => Poll::Pending,
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

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

/// The error of a [`ResponseBody`] that the drain's deadline cut off.
///
/// An error and not an end, because an end would tell the client that it has received everything.
#[derive(Debug)]
#[non_exhaustive]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("response body cut off at the drain's deadline")
    }
}

impl Error for Cut {}
