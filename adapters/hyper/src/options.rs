//! What a serve loop allows its clients.

use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::facts::Facts;

/// Limits and builders, shared by all connections of one serve loop.
#[derive(Clone, Debug)]
pub(crate) struct Options<E = TokioExecutor> {
    pub(crate) header_read: Duration,
    pub(crate) idle: Duration,
    pub(crate) age: Option<Duration>,
    pub(crate) connections: Option<usize>,
    pub(crate) moves: bool,
    pub(crate) facts: Option<Facts>,
    pub(crate) http1: Option<http1::Builder>,
    pub(crate) http2: Option<http2::Builder<E>>,
}

impl<E: Clone> Options<E> {
    /// The defaults; the executor is for the streams of HTTP/2.
    pub(crate) fn new(executor: E) -> Self {
        let mut http1 = http1::Builder::new();
        // The loop keeps this limit itself, together with the others, by one timer.
        http1.header_read_timeout(None);
        let mut http2 = http2::Builder::new(executor);
        http2.timer(TokioTimer::new()).enable_connect_protocol();
        Self {
            header_read: Duration::from_secs(30),
            // Longer than the 60 s of common balancers, so that they are the ones to close.
            idle: Duration::from_secs(75),
            age: None,
            connections: None,
            moves: true,
            facts: Some(Facts::default()),
            http1: Some(http1),
            http2: Some(http2),
        }
    }
}

impl<E> Options<E> {
    /// How often a connection is looked at: a limit is kept to within a quarter of itself.
    pub(crate) fn tick(&self) -> Duration {
        let tick = self.header_read.min(self.idle) / 4;
        tick.clamp(Duration::from_millis(10), Duration::from_secs(10))
    }
}
