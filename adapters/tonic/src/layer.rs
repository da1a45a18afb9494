//! The layer for tonic's own server.

use std::time::Duration;

use handover::{Graceful, GracefulLayer, GracefulService};
use tower_layer::Layer;

use crate::service::DrainService;

/// Makes a drain wait for calls, and ends them as gRPC clients expect it.
///
/// It is [`GracefulLayer`] with gRPC's answers: calls that the deadline cuts end with `UNAVAILABLE`
/// in trailers, and health `Watch` and reflection streams end a second after their clients were told
/// to go, or, on a loop that does not say when that is, after the drain begins. Under
/// [`serve`](crate::serve) all that is there without it; under tonic's own server, see
/// [`foreign`](crate::foreign).
///
/// # Examples
///
/// ```
/// use handover::Graceful;
/// use handover_tonic::DrainLayer;
/// use tonic::transport::Server;
///
/// let graceful = Graceful::new();
/// let router = Server::builder()
///     .layer(DrainLayer::new(graceful.clone()))
///     .add_service(handover_tonic::health());
/// # drop(router);
/// ```
#[derive(Clone, Debug)]
pub struct DrainLayer {
    graceful: GracefulLayer,
    pushback: Option<Duration>,
}

impl DrainLayer {
    /// A layer whose calls hold this drain open.
    #[must_use]
    pub fn new(graceful: Graceful) -> Self {
        Self {
            graceful: GracefulLayer::new(graceful),
            pushback: None,
        }
    }

    /// Answers calls that come in while draining with `UNAVAILABLE`, before any handler sees them,
    /// and tells clients that retry such answers by policy when to: `grpc-retry-pushback-ms`, and
    /// `RetryInfo` in the details. Health and reflection are still served.
    ///
    /// Off by default, and rarely right: after GOAWAY only those calls come that were on their way,
    /// and a client without a retry policy reports each refusal as an error. It is for services
    /// whose calls take longer than the deadline leaves.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::{convert::Infallible, time::Duration};
    ///
    /// use handover::Graceful;
    /// use handover_tonic::DrainLayer;
    /// use http::{Request, Response};
    /// use tonic::{Code, Status, body::Body};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// let graceful = Graceful::new();
    /// let _work = graceful.guard();
    /// let service = DrainLayer::new(graceful.clone())
    ///     .refuse_while_draining(Duration::from_millis(200))
    ///     .layer(service_fn(async |_: Request<Body>| {
    ///         Ok::<_, Infallible>(Response::new(Body::empty()))
    ///     }));
    /// graceful.drain();
    /// let answer = service.oneshot(Request::new(Body::empty())).await.unwrap();
    /// let status = Status::from_header_map(answer.headers()).unwrap();
    /// assert_eq!(status.code(), Code::Unavailable);
    /// # }
    /// ```
    #[must_use]
    pub fn refuse_while_draining(mut self, pushback: Duration) -> Self {
        self.pushback = Some(pushback);
        self
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = GracefulService<DrainService<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.graceful.layer(DrainService::new(inner, self.pushback))
    }
}
