//! A response body that ends with trailers, whatever happens to it.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use handover::Graceful;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;

use crate::{moment::Moment, request::Call, service::is_cut, status};

pin_project! {
    /// Response body of [`DrainService`](crate::DrainService). At the cut it ends with `UNAVAILABLE`
    /// in trailers, after the message under way.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover_tonic::ResponseBody;
    /// use http_body::Body;
    ///
    /// // The body of an answer that is a status and nothing else.
    /// let empty = ResponseBody::<tonic::body::Body>::default();
    /// assert!(empty.is_end_stream());
    /// ```
    pub struct ResponseBody<B> {
        #[pin]
        inner: Option<B>,
        graceful: Option<Graceful>,
        // When to end before the deadline, for streams that nobody else ends.
        moment: Option<Box<Moment>>,
        // A message has been let out since the cut.
        late: bool,
        // Over when this is dropped.
        call: Option<Call>,
    }
}

impl<B> Default for ResponseBody<B> {
    /// An empty body: the status is in the headers.
    fn default() -> Self {
        Self {
            inner: None,
            graceful: None,
            moment: None,
            late: false,
            call: None,
        }
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn new(
        inner: B,
        graceful: Option<Graceful>,
        moment: Option<Box<Moment>>,
        call: Option<Call>,
    ) -> Self {
        Self {
            inner: Some(inner),
            graceful,
            moment,
            late: false,
            call,
        }
    }
}

impl<B: Body> ResponseBody<B> {
    fn end(mut self: Pin<&mut Self>, status: &Status) -> Frame<B::Data> {
        let mut this = self.as_mut().project();
        this.inner.set(None);
        *this.moment = None;
        Frame::trailers(status::trailers(status))
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.as_mut().project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let polled = inner.poll_frame(cx);
        match &polled {
            // tonic's frames hold whole messages. An answer is often one of them and its trailers;
            // a stream that always has another one must end nevertheless.
            Poll::Ready(Some(Ok(frame))) if frame.is_data() && is_cut(this.graceful.as_ref()) => {
                if !std::mem::replace(this.late, true) {
                    return polled;
                }
            }
            Poll::Ready(_) => return polled,
            Poll::Pending if is_cut(this.graceful.as_ref()) => {}
            Poll::Pending => {
                let moment = this.moment.as_mut();
                if !moment.is_some_and(|moment| moment.poll(cx).is_ready()) {
                    return Poll::Pending;
                }
                let status = status::server_draining(Duration::ZERO);
                return Poll::Ready(Some(Ok(self.end(&status))));
            }
        }
        Poll::Ready(Some(Ok(self.end(&status::cut()))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // What it ends with may come sooner.
        let upper = self.inner.as_ref().map(|inner| inner.size_hint().upper());
        let mut hint = SizeHint::new();
        if let Some(upper) = upper.unwrap_or(Some(0)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// Always has another message.
    fn flood() -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let message = || Ok(Frame::data(Bytes::from_static(b"message")));
        StreamBody::new(stream::repeat_with(message))
    }

    #[tokio::test]
    async fn a_body_that_never_waits_ends_at_the_cut_as_well() {
        let graceful = Graceful::new();
        let _open = graceful.guard();
        let mut body = ResponseBody::new(flood(), Some(graceful.clone()), None, None);
        for _ in 0..10 {
            assert!(body.frame().await.unwrap().unwrap().is_data());
        }
        graceful.cut();
        assert!(body.frame().await.unwrap().unwrap().is_data());
        let end = body.frame().await.unwrap().unwrap();
        assert_eq!(end.trailers_ref().unwrap()["grpc-status"], "14");
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn an_answer_that_is_finished_at_the_cut_is_whole() {
        let graceful = Graceful::new();
        let _open = graceful.guard();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let frames = [
            Frame::data(Bytes::from_static(b"m")),
            Frame::trailers(trailers),
        ];
        let inner = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
        let body = ResponseBody::new(inner, Some(graceful.clone()), None, None);
        graceful.cut();
        let whole = body.collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    }
}
