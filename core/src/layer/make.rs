use std::time::Duration;

use tower_layer::Layer;

use super::GracefulService;
use crate::Graceful;

/// Layer that applies [`GracefulService`]. See the [module](super) for what it does.
#[derive(Clone, Debug)]
pub struct GracefulLayer {
    graceful: Graceful,
    refuse: Option<Duration>,
}

impl GracefulLayer {
    /// A layer whose requests hold this drain open.
    #[must_use]
    pub fn new(graceful: Graceful) -> Self {
        Self {
            graceful,
            refuse: None,
        }
    }

    /// Answers requests that come in while draining with `503` and `Retry-After` (in seconds,
    /// rounded up), instead of serving them.
    ///
    /// Off by default: a request that has come this far is cheaper served than sent away. Turn it
    /// on where clients retry elsewhere and serving would take longer than the deadline.
    #[must_use]
    pub fn refuse_while_draining(mut self, retry_after: Duration) -> Self {
        self.refuse = Some(retry_after);
        self
    }
}

impl<S> Layer<S> for GracefulLayer {
    type Service = GracefulService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GracefulService::new(inner, self.graceful.clone(), self.refuse)
    }
}
