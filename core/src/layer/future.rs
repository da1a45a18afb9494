#[cfg(feature = "accept")]
use std::sync::Arc;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Response, StatusCode, Version,
    header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
#[cfg(feature = "accept")]
use http::{Method, Uri};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    ResponseBody,
    watch::{Request, Watch},
};
#[cfg(feature = "accept")]
use crate::Connection;
use crate::{Guard, Phase};

pin_project! {
    /// Response future of [`GracefulService`](super::GracefulService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
        // Until the head of the response is out; then the body carries it, so that a drain waits
        // for the last byte, and a disconnect ends the wait early.
        watch: Watch,
        announces: bool,
        // From an `EventSource`, which no error may be told.
        asks_for_events: bool,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] inner: F },
        Refused { retry_after: Option<Duration> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, watch: Watch, announces: bool) -> Self {
        Self {
            state: State::Called { inner },
            watch,
            announces,
            asks_for_events: false,
        }
    }

    /// Says whether the request [asks for events](super::asks_for_events). Where it has to be refused,
    /// its client then gets an empty stream of them instead of the 503 after which it would never
    /// come back.
    pub fn for_events(mut self, asks: bool) -> Self {
        self.asks_for_events = asks;
        self
    }

    pub(super) fn counted(inner: F, guard: Guard, request: Request, version: Version) -> Self {
        let watch = Watch::Counted(guard, Some(request));
        Self::new(inner, watch, version <= Version::HTTP_11)
    }

    /// What the layer does, for a serve loop that has counted the request itself, and whose
    /// connection lists it, runs it in its own task, polls it at the cut, and announces its own
    /// close: HTTP/1.
    pub fn of_connection(inner: F, guard: Guard) -> Self {
        Self::new(inner, Watch::OfConnection(guard), false)
    }

    /// The same for a request with a task of its own: a stream of HTTP/2. It is listed, with its
    /// connection's peer, once it is not answered at once.
    #[cfg(feature = "accept")]
    pub fn of_stream(
        inner: F,
        guard: Guard,
        method: Method,
        uri: Uri,
        connection: Arc<Connection>,
    ) -> Self {
        let request = Request {
            connection: Some(connection),
            ..Request::new(method, uri)
        };
        Self::counted(inner, guard, request, Version::HTTP_2)
    }

    /// A response future that nothing waits for: the drain is over, or somebody else counts it.
    pub fn untracked(inner: F) -> Self {
        Self::new(inner, Watch::Elsewhere, false)
    }

    pub(super) fn refuse(retry_after: Option<Duration>) -> Self {
        Self {
            state: State::Refused { retry_after },
            watch: Watch::Over,
            announces: true,
            asks_for_events: false,
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let response = match this.state.as_mut().project() {
            StateProj::Refused { retry_after } => {
                return Poll::Ready(Ok(unavailable(*retry_after, *this.asks_for_events)));
            }
            StateProj::Called { inner } => match inner.poll(cx) {
                Poll::Ready(response) => response,
                Poll::Pending if this.watch.poll_cut(cx).is_ready() => {
                    // The handler is dropped here, before the client is told: what it held is
                    // free by the time of a retry.
                    this.state.set(State::Refused { retry_after: None });
                    let watch = std::mem::replace(this.watch, Watch::Over);
                    let response = unavailable(None, *this.asks_for_events);
                    return Poll::Ready(Ok(response.map(|body: ResponseBody<B>| body.with(watch))));
                }
                Poll::Pending => return Poll::Pending,
            },
        };
        let watch = std::mem::replace(this.watch, Watch::Over);
        let mut response = response?;
        if *this.announces && watch.phase() != Phase::Running {
            announce(&mut response);
        }
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body).with(watch))))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

/// The type of a stream of server-sent events.
const EVENTS: &str = "text/event-stream";

/// Whether a request with these headers comes from an `EventSource`, or from who wants what one gets.
#[must_use]
pub fn asks_for_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).map(HeaderValue::as_bytes);
    accepted.is_some_and(|accepted| {
        // Nearly always this alone, or something that is shorter.
        let mut ranges = accepted.split(|byte| *byte == b',');
        ranges.any(|range| {
            let range = range.trim_ascii();
            let name = range.get(..EVENTS.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(EVENTS.as_bytes()))
        })
    })
}

/// Tells an HTTP/1 client that this is the last answer on its connection.
fn announce<B>(response: &mut Response<B>) {
    // A 101 keeps its `Connection: upgrade`: WebSocket clients insist on that alone.
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

fn unavailable<B: Body>(
    retry_after: Option<Duration>,
    asks_for_events: bool,
) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::empty());
    if asks_for_events {
        // The end of a stream is what makes an `EventSource` come back.
        let events = HeaderValue::from_static(EVENTS);
        response.headers_mut().insert(CONTENT_TYPE, events);
        announce(&mut response);
        return response;
    }
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    if let Some(time) = retry_after {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    announce(&mut response);
    response
}
