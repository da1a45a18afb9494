//! The bodies of a request and of its response, which say when they have ended.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use crate::link::Link;

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    // Before the link, which is told of a body that was dropped when hyper can know of it.
    inner: Incoming,
    // `None` once it has been read to its end.
    open: Option<Open>,
}

/// A body that has not been read to its end.
#[derive(Debug)]
struct Open {
    link: Arc<Link>,
    // Which of the connection's: it may outlive its request, while the next one has one too.
    ordinal: u32,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.link.abandon_request_body(self.ordinal);
    }
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, link: &Arc<Link>) -> Self {
        let open = (!inner.is_end_stream()).then(|| Open {
            link: link.clone(),
            ordinal: link.next_request_body(),
        });
        Self { inner, open }
    }

    /// Its number, while it is open.
    fn ordinal(&self) -> Option<u32> {
        self.open.as_ref().map(|open| open.ordinal)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let ended = matches!(polled, Poll::Ready(None)) || self.inner.is_end_stream();
        if ended && let Some(open) = self.open.take() {
            open.link.end_of_request_body(open.ordinal);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// One request in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Link>);

impl InFlight {
    /// Begins a request; one that shares its connection does not speak for it.
    pub(crate) fn begin(link: &Arc<Link>, request: &Request<RequestBody>, shares: bool) -> Self {
        link.begin(request.body().ordinal());
        if !shares {
            let connection = &link.connection;
            connection.begin_request(request.method().as_str(), request.uri().path());
        }
        Self(link.clone())
    }

    pub(crate) fn link(&self) -> &Link {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.end();
    }
}

pin_project! {
    /// The body of a response, in flight until it is dropped.
    pub(crate) struct ResponseBody<B> {
        #[pin]
        inner: B,
        in_flight: InFlight,
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn new(inner: B, in_flight: InFlight) -> Self {
        Self { inner, in_flight }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
