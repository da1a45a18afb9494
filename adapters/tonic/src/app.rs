//! The step from the serve loop's requests to tonic's.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use handover::{Address, Connection};
use handover_hyper::RequestBody;
use http::{Extensions, HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tonic::{Status, body::Body, transport::server::TcpConnectInfo};
use tower_service::Service;

use crate::{
    body::ResponseBody,
    foreign::specific,
    service::{self, DrainService},
};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// How long a client waits for the answer: a number of at most eight digits, and a unit.
const TIMEOUT: &str = "grpc-timeout";

/// A response body that can be served. Implemented for all that qualify.
///
/// # Examples
///
/// ```
/// use handover_tonic::GrpcBody;
/// use http::Response;
///
/// /// A middleware of one's own: it keeps what the loop asks of an answer.
/// fn tagged<B: GrpcBody>(mut answer: Response<B>) -> Response<B> {
///     answer.headers_mut().insert("x-served-by", http::HeaderValue::from_static("here"));
///     answer
/// }
///
/// let answer = tagged(Response::new(tonic::body::Body::empty()));
/// assert_eq!(answer.headers()["x-served-by"], "here");
/// ```
pub trait GrpcBody: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static {}

impl<B> GrpcBody for B where B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static {}

/// A gRPC service that can be served by Handover's loop. Made by [`serve`](crate::serve).
///
/// # Examples
///
/// ```
/// use handover::Graceful;
/// use handover_hyper::Serve;
/// use handover_tonic::App;
/// use tokio::net::TcpListener;
/// use tonic::service::Routes;
///
/// /// What is the same for each listener of a service.
/// fn server(listener: TcpListener, routes: Routes, graceful: &Graceful) -> Serve<TcpListener, App<Routes>> {
///     handover_tonic::serve(listener, routes)
///         .with_graceful(graceful.clone())
///         .max_connections(10_000)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct App<S> {
    inner: DrainService<S>,
}

impl<S> App<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner: DrainService::new(inner, None),
        }
    }
}

/// Puts there what tonic's `Request::remote_addr` looks for; the listener's address is that of a
/// connection only where it is one address.
pub(crate) fn connect_info(
    local: Option<Address>,
) -> impl Fn(&Arc<Connection>, &mut Extensions) + Send + Sync + 'static {
    let local_addr = specific(local.as_ref().and_then(Address::as_socket_addr));
    move |connection, extensions| {
        extensions.insert(TcpConnectInfo {
            local_addr,
            remote_addr: connection.peer().as_socket_addr(),
        });
    }
}

impl<S, B> Service<Request<RequestBody>> for App<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: GrpcBody,
{
    type Response = Response<ResponseBody<B>>;
    type Error = BoxError;
    type Future = AppFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let request = request.map(Body::new);
        let timeout = timeout(request.headers());
        AppFuture {
            inner: self.inner.call(request),
            timeout: timeout.map(|time| Box::pin(sleep(time))),
        }
    }
}

pin_project! {
    /// Response future of [`App`].
    ///
    /// # Examples
    ///
    /// ```
    /// use handover_tonic::{AppFuture, GrpcBody, ResponseBody};
    /// use http::Response;
    ///
    /// /// What a middleware around an `App` awaits.
    /// async fn logged<F, B, E>(
    ///     future: AppFuture<F>,
    /// ) -> Result<Response<ResponseBody<B>>, std::convert::Infallible>
    /// where
    ///     AppFuture<F>: Future<Output = Result<Response<ResponseBody<B>>, std::convert::Infallible>>,
    ///     B: GrpcBody,
    ///     F: Future<Output = Result<Response<B>, E>>,
    /// {
    ///     let answer = future.await?;
    ///     println!("{}", answer.status());
    ///     Ok(answer)
    /// }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct AppFuture<F> {
        #[pin]
        inner: service::ResponseFuture<F>,
        timeout: Option<Pin<Box<Sleep>>>,
    }
}

impl<F, B, E> Future for AppFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: GrpcBody,
{
    type Output = Result<Response<ResponseBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(response) = this.inner.poll(cx) {
            // An error of a layer is an answer, too: without one the client knows nothing.
            let response =
                response.unwrap_or_else(|error| Status::from_error(error.into()).into_http());
            return Poll::Ready(Ok(response));
        }
        let timeout = this.timeout.as_mut();
        if timeout.is_some_and(|timeout| timeout.as_mut().poll(cx).is_ready()) {
            let status = Status::deadline_exceeded("the client's time limit is over");
            return Poll::Ready(Ok(status.into_http()));
        }
        Poll::Pending
    }
}

impl<F> fmt::Debug for AppFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppFuture").finish_non_exhaustive()
    }
}

fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(text: &'static str) -> Option<Duration> {
        let headers = [(
            http::HeaderName::from_static(TIMEOUT),
            HeaderValue::from_static(text),
        )];
        timeout(&headers.into_iter().collect())
    }

    #[test]
    fn time_limits_are_read_and_nonsense_is_ignored() {
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for text in ["", "S", "1", "-1S", "+1S", "123456789S", "1x", "1.5S"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
