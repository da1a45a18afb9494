//! The body of a request, which ends with its call.
//!
//! A call is over when its answer is, also for a client that is still sending. A task of the
//! handler's that goes on reading would keep the stream open, and with it the connection: the client
//! is told to stop only when nobody holds the body any more.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll},
};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tonic::{Status, body::Body};

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    reader: AtomicWaker,
}

/// A call that has no answer yet, or not all of it.
#[derive(Debug, Default)]
pub(crate) struct Call(Arc<Shared>);

impl Call {
    /// The body, for as long as this call goes on.
    pub(crate) fn body(&self, inner: Body) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        Body::new(RequestBody {
            inner: Some(inner),
            call: self.0.clone(),
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.is_over.store(true, Release);
        self.0.reader.wake();
    }
}

struct RequestBody {
    // `None` once the call is over.
    inner: Option<Body>,
    call: Arc<Shared>,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.call.reader.register(cx.waker());
        if self.call.is_over.load(Acquire) {
            self.inner = None;
        }
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(cx),
            // Not a clean end: the client has not finished.
            None => Poll::Ready(Some(Err(Status::cancelled("the call is over")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref();
        inner.map_or_else(SizeHint::default, Body::size_hint)
    }
}
