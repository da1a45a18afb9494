//! The body of a request, and the request's way until its answer has ended.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use handover::{
    Connection, Graceful, Phase,
    layer::{self, Asked, Watch},
};
use http::{Method, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::link::{Link, NO_BODY};

/// The body of a request. It also knows the connection that it comes from.
///
/// # Examples
///
/// ```
/// use std::error::Error;
///
/// use handover_hyper::RequestBody;
/// use http::{Request, Response};
/// use http_body_util::BodyExt;
///
/// /// Says what it was sent, and by whom.
/// async fn echo(
///     request: Request<RequestBody>,
/// ) -> Result<Response<String>, Box<dyn Error + Send + Sync>> {
///     let body = request.into_body();
///     let (peer, ends) = (body.connection().peer().clone(), body.graceful().is_draining());
///     let text = body.collect().await?.to_bytes();
///     let text = String::from_utf8_lossy(&text);
///     let goodbye = if ends { ", and goodbye" } else { "" };
///     Ok(Response::new(format!("{peer} says {text}{goodbye}")))
/// }
/// ```
#[derive(Debug)]
pub struct RequestBody {
    // Before the link, which is told of a body that was dropped when hyper can know of it.
    inner: Incoming,
    open: Open,
}

/// A body until it has been read to its end.
#[derive(Debug)]
struct Open {
    link: Arc<Link>,
    // Which of the connection's, since it may outlive its request, while the next one has one too;
    // `NO_BODY` from its end on.
    ordinal: u32,
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.ordinal != NO_BODY {
            self.link.abandon_request_body(self.ordinal);
        }
    }
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, link: &Arc<Link>) -> Self {
        let ordinal = match inner.is_end_stream() {
            true => NO_BODY,
            false => link.next_request_body(),
        };
        let link = link.clone();
        Self {
            inner,
            open: Open { link, ordinal },
        }
    }

    /// The connection that the request came by. Also among the request's extensions, as an
    /// `Arc<Connection>`, for who does not see this body.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.open.link.connection
    }

    /// The token of the server, for handlers that end something when it drains. Also among the
    /// request's extensions, as a `Graceful`.
    pub fn graceful(&self) -> &Graceful {
        self.open.link.told()
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
        if ended && self.open.ordinal != NO_BODY {
            let ordinal = std::mem::replace(&mut self.open.ordinal, NO_BODY);
            self.open.link.end_of_request_body(ordinal);
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

/// One request in flight, until it is dropped with the body of its answer.
///
/// Over HTTP/1 the connection holds the drain open for it, lists it, and is woken at the cut: nothing
/// of it leaves the connection's task. A stream of HTTP/2 has a task of its own, and does so itself.
#[derive(Debug)]
pub(crate) struct InFlight {
    link: Arc<Link>,
    asked: Asked,
    stream: Option<Box<Stream>>,
}

#[derive(Debug)]
struct Stream {
    // Without one the drain is over: the request is served all the same, since it was read, and the
    // process ends when it ends.
    watch: Option<Watch>,
    tunnels: bool,
}

impl InFlight {
    #[inline]
    pub(crate) fn begin(link: &Arc<Link>, request: &Request<RequestBody>) -> Self {
        link.begin(request.body().open.ordinal);
        let asked = Asked::of(request);
        let stream = if asked.version() >= Version::HTTP_2 {
            Some(Stream::begin(link, request))
        } else {
            let (method, path) = (request.method().as_str(), request.uri().path());
            link.connection.begin_request(method, path);
            None
        };
        Self {
            link: link.clone(),
            asked,
            stream,
        }
    }
}

impl Stream {
    fn begin(link: &Arc<Link>, request: &Request<RequestBody>) -> Box<Self> {
        let guard = link.graceful.guard();
        let watch = guard.map(|guard| Watch::of_stream(guard, request, &link.connection));
        let tunnels = *request.method() == Method::CONNECT;
        Box::new(Self { watch, tunnels })
    }
}

impl layer::InFlight for InFlight {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stream {
            Some(stream) => match &mut stream.watch {
                Some(watch) => watch.poll_cut(cx),
                None => Poll::Pending,
            },
            // The driver, which is woken at the cut, polls again.
            None if self.link.graceful.phase() >= Phase::Cutting => Poll::Ready(()),
            None => Poll::Pending,
        }
    }

    fn asked(&self) -> Asked {
        self.asked
    }

    fn answer<B>(&mut self, response: &mut Response<B>) {
        match &self.stream {
            Some(stream) if stream.tunnels && response.status().is_success() => self.link.tunnel(),
            Some(_) => {}
            None => self.link.answer(response, self.asked.version()),
        }
    }

    fn end(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.watch = None;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.link.end();
    }
}
