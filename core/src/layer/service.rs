use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{Asked, ResponseBody, ResponseFuture, Watch, make::Options, tokens::Tokens};
use crate::{Graceful, Phase};

/// Makes a drain wait for the requests of the inner service. See the [module](super).
///
/// # Examples
///
/// ```
/// use handover::{Graceful, GracefulLayer, GracefulService};
/// use tower::Layer;
///
/// let layer = GracefulLayer::new(Graceful::new());
/// let mut service: GracefulService<String> = layer.layer("the application".to_owned());
/// assert_eq!(service.get_ref(), "the application");
/// service.get_mut().push_str(", changed");
/// assert_eq!(service.into_inner(), "the application, changed");
/// ```
#[derive(Clone, Debug)]
pub struct GracefulService<S> {
    inner: S,
    tokens: Tokens,
    options: Options,
}

impl<S> GracefulService<S> {
    pub(super) fn new(inner: S, tokens: Tokens, options: Options) -> Self {
        Self {
            inner,
            tokens,
            options,
        }
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for GracefulService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let outer = request.extensions().get::<Graceful>();
        if outer.is_some_and(|outer| outer.is_same_drain(self.tokens.shared())) {
            return ResponseFuture::elsewhere(self.inner.call(request));
        }
        // Now or never: the handler takes the request along, and may be cut off much later.
        let asked = Asked::of(&request);
        let Some(guard) = self.tokens.shared().guard() else {
            return ResponseFuture::refuse(None, asked);
        };
        if let Some(retry_after) = self.options.refuse
            && guard.phase() >= Phase::Draining
        {
            return ResponseFuture::refuse(Some(retry_after), asked);
        }
        let watch = Watch::of(guard, &request, asked);
        if self.options.token {
            let token = self.tokens.of_this_thread();
            request.extensions_mut().insert(token);
        }
        ResponseFuture::new(self.inner.call(request), watch)
    }
}
