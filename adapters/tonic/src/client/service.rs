use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::sleep;
use tonic::{Status, body::Body};
use tower_service::Service;

use super::{
    layer::Options,
    replay::Replay,
    verdict::{self, Verdict},
};
use crate::app::BoxError;

/// A call that was not processed so many times is given back as an error.
const ATTEMPTS: u32 = 8;

/// The longest pause between two of them; the first is repeated at once.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A channel that repeats calls. Made by [`RetryLayer`](super::RetryLayer).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use handover_tonic::client::{Retry, RetryLayer};
/// use tonic::transport::{Channel, Endpoint};
/// use tower::Layer;
///
/// let channel = Endpoint::from_static("http://127.0.0.1:50051").connect_lazy();
/// let mut channel: Retry<Channel> = RetryLayer::new().layer(channel);
/// println!("{:?}", channel.get_ref());
/// println!("{:?}", channel.get_mut());
/// let without: Channel = channel.into_inner();
/// # drop(without);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    options: Options,
}

impl<S> Retry<S> {
    pub(super) fn new(inner: S, options: Options) -> Self {
        Self { inner, options }
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

impl<S, B> Service<Request<Body>> for Retry<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<B>;
    // What tonic's clients make of any error.
    type Error = Status;
    type Future = CallFuture<B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| Status::from_error(error.into()))
    }

    fn call(&mut self, request: Request<Body>) -> CallFuture<B> {
        // The one that is ready is called; its clone may not be.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        CallFuture(Box::pin(call(ready, request, self.options)))
    }
}

async fn call<S, B>(
    mut channel: S,
    request: Request<Body>,
    options: Options,
) -> Result<Response<B>, Status>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let replay = Replay::new(body, options.buffer);
    let mut attempt = 1;
    loop {
        let request = Request::from_parts(head.clone(), Body::new(replay.attempt()));
        let result: Result<_, BoxError> = channel.call(request).await.map_err(Into::into);
        let verdict = match &result {
            Ok(response) => verdict::of_headers(response.headers()),
            Err(error) => verdict::of_error(error.as_ref()),
        };
        let Some(pause) = pause(verdict, attempt, &options).filter(|_| replay.can_replay()) else {
            // What is left of the request goes on.
            replay.commit();
            return result.map_err(Status::from_error);
        };
        tracing::debug!(method = head.uri.path(), attempt, ?verdict, "call repeated");
        drop(result);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        attempt += 1;
        poll_fn(|cx| channel.poll_ready(cx))
            .await
            .map_err(|error| Status::from_error(error.into()))?;
    }
}

/// After how long to repeat the call, if at all.
fn pause(verdict: Verdict, attempt: u32, options: &Options) -> Option<Duration> {
    let doubled = |time: Duration, times: u32| {
        let time = time.saturating_mul(1 << times.min(16));
        time.mul_f64(0.8 + 0.4 * fastrand::f64())
    };
    match (verdict, options.unavailable) {
        (Verdict::Unprocessed, _) if attempt == 1 => Some(Duration::ZERO),
        (Verdict::Unprocessed, _) if attempt < ATTEMPTS => {
            let pause = doubled(Duration::from_millis(1), attempt - 2);
            Some(pause.min(LONGEST_PAUSE))
        }
        (Verdict::Unavailable(pushback), Some(policy)) if attempt < policy.attempts => {
            Some(pushback.unwrap_or_else(|| doubled(policy.pause, attempt - 1)))
        }
        _ => None,
    }
}

/// Response future of [`Retry`].
///
/// # Examples
///
/// ```
/// use handover_tonic::client::CallFuture;
/// use http::Response;
/// use tonic::Status;
///
/// /// What a middleware around a channel that repeats calls awaits.
/// async fn logged<B>(call: CallFuture<B>) -> Result<Response<B>, Status> {
///     let answer = call.await;
///     if let Err(status) = &answer {
///         println!("after all attempts: {status}");
///     }
///     answer
/// }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct CallFuture<B>(
    Pin<Box<dyn Future<Output = Result<Response<B>, Status>> + Send + 'static>>,
);

impl<B> Future for CallFuture<B> {
    type Output = Result<Response<B>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<B> fmt::Debug for CallFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture").finish_non_exhaustive()
    }
}
