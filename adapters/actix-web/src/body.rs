//! The body of a response, from actix's trait to the one of the serve loop.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

pub(crate) struct ResponseBody {
    // `None` for one that has nothing.
    inner: Option<BoxBody>,
    // What is still to come, where that is known.
    left: Option<u64>,
}

impl ResponseBody {
    pub(crate) fn new(body: BoxBody) -> Self {
        match body.size() {
            BodySize::None | BodySize::Sized(0) => Self::empty(),
            BodySize::Sized(len) => Self {
                inner: Some(body),
                left: Some(len),
            },
            BodySize::Stream => Self {
                inner: Some(body),
                left: None,
            },
        }
    }

    pub(crate) fn empty() -> Self {
        Self {
            inner: None,
            left: Some(0),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(body) = &mut self.inner else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(bytes))) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            // What went wrong may not leave this thread; what it says may.
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(io::Error::other(error.to_string()))))
            }
            Poll::Ready(None) => {
                self.inner = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_none() || self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
