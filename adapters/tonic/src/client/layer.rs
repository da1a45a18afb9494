use std::time::Duration;

use tower_layer::Layer;

use super::Retry;

/// Repeats calls that the server did not process. See the [module](super).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
///
/// use handover_tonic::client::RetryLayer;
/// use tonic::transport::Endpoint;
/// use tonic_health::pb::health_client::HealthClient;
/// use tower::Layer;
///
/// let channel = Endpoint::from_static("http://127.0.0.1:50051").connect_lazy();
/// let retry = RetryLayer::new()
///     .buffer(1024 * 1024)
///     // Its calls may be done twice.
///     .retry_unavailable(4, Duration::from_millis(50));
/// let client = HealthClient::new(retry.layer(channel));
/// # drop(client);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer {
    options: Options,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) buffer: usize,
    pub(super) unavailable: Option<Policy>,
}

/// When to repeat what may have been processed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) attempts: u32,
    pub(super) pause: Duration,
}

impl RetryLayer {
    /// Repeats what was provably not processed, and nothing else.
    #[must_use]
    pub fn new() -> Self {
        Self {
            options: Options {
                buffer: 256 << 10,
                unavailable: None,
            },
        }
    }

    /// How many bytes of a request are kept to be sent again, in each call. Default 256 KiB. A
    /// request that grows longer is sent on, and not repeated.
    #[must_use]
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.options.buffer = bytes;
        self
    }

    /// Repeats as well what was answered with `UNAVAILABLE` before any message, and what found
    /// nobody to connect to: up to `attempts` attempts in all, after `pause`, and twice as long each
    /// time, give or take a part. A server's `grpc-retry-pushback-ms` is obeyed.
    ///
    /// Only for services whose calls may be done twice: a handler may have seen the first one.
    #[must_use]
    pub fn retry_unavailable(mut self, attempts: u32, pause: Duration) -> Self {
        self.options.unavailable = Some(Policy { attempts, pause });
        self
    }
}

impl Default for RetryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry::new(inner, self.options)
    }
}
