//! The service that gives a drain gRPC's answers.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use handover::{Graceful, Phase};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    body::ResponseBody,
    moment::{Moment, When},
    request::Call,
    status,
};

/// Streams that are open for as long as their client lives, and that nobody but the server ends.
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.";
/// Asked about the service, not of it.
const HEALTH: &str = "/grpc.health.";

/// Gives a drain gRPC's answers. Made by [`DrainLayer`](crate::DrainLayer).
///
/// What drains is the token in a call's extensions.
///
/// # Examples
///
/// ```
/// use handover::{Graceful, GracefulService};
/// use handover_tonic::{DrainLayer, DrainService};
/// use tower::Layer;
///
/// // A `GracefulLayer`'s service is around it, which counts the calls.
/// let layer = DrainLayer::new(Graceful::new());
/// let counted: GracefulService<DrainService<String>> = layer.layer("the service".to_owned());
/// let mut service = counted.into_inner();
/// assert_eq!(service.get_ref(), "the service");
/// service.get_mut().push_str(", changed");
/// assert_eq!(service.into_inner(), "the service, changed");
/// ```
#[derive(Clone, Debug)]
pub struct DrainService<S> {
    inner: S,
    pushback: Option<Duration>,
}

impl<S> DrainService<S> {
    pub(crate) fn new(inner: S, pushback: Option<Duration>) -> Self {
        Self { inner, pushback }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B> Service<Request<tonic::body::Body>> for DrainService<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let graceful = request.extensions().get::<Graceful>().cloned();
        let path = request.uri().path();
        let is_reflection = path.starts_with(REFLECTION);
        if let (Some(pushback), Some(graceful)) = (self.pushback, &graceful)
            && graceful.phase() >= Phase::Draining
            && !is_reflection
            && !path.starts_with(HEALTH)
        {
            return ResponseFuture::refused(pushback);
        }
        let moment = match &graceful {
            Some(graceful) if is_reflection || path == WATCH => {
                let when = match graceful.phase() < Phase::Draining {
                    true => When::Soon,
                    false => When::AfterTheWindow,
                };
                Some(Box::new(Moment::new(graceful, when)))
            }
            _ => None,
        };
        let call = Call::default();
        let request = request.map(|body| call.body(body));
        ResponseFuture {
            state: State::Called {
                inner: self.inner.call(request),
            },
            graceful,
            moment,
            call: Some(call),
        }
    }
}

pin_project! {
    /// Response future of [`DrainService`].
    ///
    /// # Examples
    ///
    /// ```
    /// use handover_tonic::{ResponseBody, ResponseFuture};
    /// use http::Response;
    ///
    /// /// What a middleware around a `DrainService` awaits.
    /// async fn logged<F, B, E>(future: ResponseFuture<F>) -> Result<Response<ResponseBody<B>>, E>
    /// where
    ///     ResponseFuture<F>: Future<Output = Result<Response<ResponseBody<B>>, E>>,
    /// {
    ///     let answer = future.await?;
    ///     println!("{}", answer.status());
    ///     Ok(answer)
    /// }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
        graceful: Option<Graceful>,
        moment: Option<Box<Moment>>,
        // Until the head of the response is out; then the body has it.
        call: Option<Call>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] inner: F },
        Refused { pushback: Duration },
        Cut,
    }
}

impl<F> ResponseFuture<F> {
    fn refused(pushback: Duration) -> Self {
        Self {
            state: State::Refused { pushback },
            graceful: None,
            moment: None,
            call: None,
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
        let status = match this.state.as_mut().project() {
            StateProj::Called { inner } => match inner.poll(cx) {
                Poll::Ready(response) => {
                    let (graceful, moment) = (this.graceful.take(), this.moment.take());
                    let call = this.call.take();
                    let body = |body| ResponseBody::new(body, graceful, moment, call);
                    return Poll::Ready(response.map(|response| response.map(body)));
                }
                // Whoever counts this call wakes it at the cut.
                Poll::Pending if is_cut(this.graceful.as_ref()) => {
                    // The handler is dropped before the client is told.
                    this.state.set(State::Cut);
                    status::cut()
                }
                Poll::Pending => return Poll::Pending,
            },
            StateProj::Refused { pushback } => status::refused(*pushback),
            StateProj::Cut => status::cut(),
        };
        Poll::Ready(Ok(status.into_http()))
    }
}

pub(crate) fn is_cut(graceful: Option<&Graceful>) -> bool {
    graceful.is_some_and(|graceful| graceful.phase() >= Phase::Cutting)
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
