//! Answers probes in front of a service.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::health::{Health, Probe};

/// Answers `/livez`, `/readyz` and `/startupz` in front of a service. See [`health`](crate::health).
///
/// It is for every tower server whose response bodies can be made of text, as axum's and
/// `http_body_util::Full` can. Other methods than GET and HEAD, and other paths, are the service's.
///
/// ```
/// use std::convert::Infallible;
///
/// use handover::{Graceful, HealthLayer, health::Health};
/// use http::{Request, Response, StatusCode};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let health = Health::new(Graceful::new());
/// let service = ServiceBuilder::new()
///     .layer(HealthLayer::new(health))
///     .service(service_fn(async |_: Request<()>| {
///         Ok::<_, Infallible>(Response::new(String::from("hello")))
///     }));
///
/// let probe = Request::get("/readyz").body(()).unwrap();
/// let answer = service.oneshot(probe).await.unwrap();
/// assert_eq!(answer.status(), StatusCode::OK);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HealthLayer {
    health: Health,
}

impl HealthLayer {
    /// A layer that answers for this service.
    #[must_use]
    pub fn new(health: Health) -> Self {
        Self { health }
    }
}

impl<S> Layer<S> for HealthLayer {
    type Service = HealthService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HealthService {
            inner,
            health: self.health.clone(),
        }
    }
}

/// Answers probes in front of the inner service. Made by [`HealthLayer`].
///
/// # Examples
///
/// ```
/// use handover::{Graceful, HealthLayer, HealthService, health::Health};
/// use tower::Layer;
///
/// /// What answers in a program's tests.
/// struct Application;
///
/// let layer = HealthLayer::new(Health::new(Graceful::new()));
/// let with_probes: HealthService<Application> = layer.layer(Application);
/// # drop(with_probes);
/// ```
#[derive(Clone, Debug)]
pub struct HealthService<S> {
    inner: S,
    health: Health,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for HealthService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<String>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = HealthFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let is_asked = [Method::GET, Method::HEAD].contains(request.method());
        match Probe::from_path(request.uri().path()).filter(|_| is_asked) {
            Some(probe) => HealthFuture {
                state: State::Answered {
                    answer: Some(self.health.respond(probe).map(ResBody::from)),
                },
            },
            None => HealthFuture {
                state: State::Asked {
                    inner: self.inner.call(request),
                },
            },
        }
    }
}

impl Health {
    /// The answer to a probe: 200 with `ok`, or 503 with the reason.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::{Graceful, health::{Health, Probe}};
    /// use http::StatusCode;
    ///
    /// let graceful = Graceful::new();
    /// let health = Health::new(graceful.clone());
    /// assert_eq!(health.respond(Probe::Ready).body(), "ok\n");
    /// graceful.drain();
    /// assert_eq!(health.respond(Probe::Ready).status(), StatusCode::SERVICE_UNAVAILABLE);
    /// ```
    #[must_use]
    pub fn respond(&self, probe: Probe) -> Response<String> {
        let (status, text) = match self.check(probe) {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
        };
        let mut response = Response::new(text);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, text);
        // It is about this moment.
        let never = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, never);
        response
    }
}

pin_project! {
    /// Response future of [`HealthService`].
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::layer::HealthFuture;
    /// use http::Response;
    ///
    /// /// What a middleware around [`HealthLayer`](handover::HealthLayer) awaits, to log the answer.
    /// async fn logged<F, B, E>(future: HealthFuture<F, B>) -> Result<Response<B>, E>
    /// where
    ///     F: Future<Output = Result<Response<B>, E>>,
    /// {
    ///     let answer = future.await?;
    ///     println!("{}", answer.status());
    ///     Ok(answer)
    /// }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct HealthFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B> {
        Asked { #[pin] inner: F },
        Answered { answer: Option<Response<B>> },
    }
}

impl<F, B, E> Future for HealthFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Asked { inner } => inner.poll(cx),
            // As for any future, there is nothing behind the end.
            StateProj::Answered { answer } => answer
                .take()
                .map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer))),
        }
    }
}

impl<F, B> fmt::Debug for HealthFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthFuture").finish_non_exhaustive()
    }
}
