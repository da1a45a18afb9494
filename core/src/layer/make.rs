use std::time::Duration;

use tower_layer::Layer;

use super::{GracefulService, tokens::Tokens};
use crate::Graceful;

/// Layer that applies [`GracefulService`]. See the [module](super) for what it does.
///
/// # Examples
///
/// ```
/// use handover::{Graceful, GracefulLayer};
/// use tower::{Layer, ServiceBuilder};
///
/// let graceful = Graceful::new();
/// let layer = GracefulLayer::new(graceful.clone());
///
/// // Around a service by itself, or among the other layers of a stack.
/// let service = layer.layer("the application");
/// assert_eq!(service.into_inner(), "the application");
/// let stack = ServiceBuilder::new().layer(layer.without_token()).service("the application");
/// assert_eq!(stack.get_ref(), &"the application");
/// ```
#[derive(Clone, Debug)]
pub struct GracefulLayer {
    tokens: Tokens,
    options: Options,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) refuse: Option<Duration>,
    pub(super) token: bool,
}

impl GracefulLayer {
    /// A layer whose requests hold this drain open.
    #[must_use]
    pub fn new(graceful: Graceful) -> Self {
        Self {
            tokens: Tokens::of(graceful),
            options: Options {
                refuse: None,
                token: true,
            },
        }
    }

    /// Answers requests that come in while draining with `503` and `Retry-After` (in seconds,
    /// rounded up), instead of serving them.
    ///
    /// Off by default: a request that has come this far is cheaper served than sent away. Turn it
    /// on where clients retry elsewhere and serving would take longer than the deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::{convert::Infallible, time::Duration};
    ///
    /// use handover::{Graceful, GracefulLayer};
    /// use http::{Request, Response, StatusCode, header::RETRY_AFTER};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// let graceful = Graceful::new();
    /// let _work = graceful.guard();
    /// let service = GracefulLayer::new(graceful.clone())
    ///     .refuse_while_draining(Duration::from_secs(2))
    ///     .layer(service_fn(async |_: Request<()>| {
    ///         Ok::<_, Infallible>(Response::new(String::from("hello")))
    ///     }));
    /// graceful.drain();
    /// let answer = service.oneshot(Request::new(())).await.unwrap();
    /// assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    /// assert_eq!(answer.headers()[RETRY_AFTER], "2");
    /// # }
    /// ```
    #[must_use]
    pub fn refuse_while_draining(mut self, retry_after: Duration) -> Self {
        self.options.refuse = Some(retry_after);
        self
    }

    /// Leaves the token out of the requests' extensions.
    ///
    /// Under a server that puts nothing else there it is most of what this layer costs: three
    /// allocations for each request. Do so where handlers do not watch the drain, or have the token
    /// by other means, such as axum's state. A second layer further in does not know of this one then,
    /// and counts the request once more.
    #[must_use]
    pub fn without_token(mut self) -> Self {
        self.options.token = false;
        self
    }
}

impl<S> Layer<S> for GracefulLayer {
    type Service = GracefulService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GracefulService::new(inner, self.tokens.clone(), self.options)
    }
}
