//! An application whose requests a drain knows, for actix's own loop to call.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_http::{
    ConnectionType, HttpMessage as _, Request, Response, StatusCode,
    body::{BoxBody, MessageBody},
    header::{self, HeaderValue},
};
use actix_service::ServiceFactory;
use actix_web::{Error, dev::AppConfig};
use pin_project_lite::pin_project;

use super::{
    body::ResponseBody,
    connection::{InFlight, Tracking},
    cut::Cut,
    server::Shared,
};

/// An application that a [`Server`](super::Server) gives to `HttpServer`: the outermost middleware.
///
/// # Examples
///
/// ```
/// use actix_http::Request;
/// use actix_service::ServiceFactory;
/// use actix_web::dev::AppConfig;
/// use handover_actix_web::foreign::{Application, NotStarted};
///
/// /// Makes the service of one worker, as `HttpServer` does.
/// async fn make<S, B, Made>(
///     application: &Application<S, B>,
///     config: AppConfig,
/// ) -> Result<Made, NotStarted>
/// where
///     Application<S, B>:
///         ServiceFactory<Request, Config = AppConfig, InitError = NotStarted, Service = Made>,
/// {
///     application.new_service(config).await
/// }
/// ```
pub struct Application<S, B> {
    inner: S,
    shared: Arc<Shared>,
    body: PhantomData<fn() -> B>,
}

impl<S, B> Application<S, B> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self {
            inner,
            shared,
            body: PhantomData,
        }
    }
}

impl<S, B> ServiceFactory<Request> for Application<S, B>
where
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Error>,
    S::InitError: fmt::Debug,
    B: MessageBody + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Error;
    type Config = AppConfig;
    type Service = Service<S::Service, B>;
    type InitError = NotStarted;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Service, NotStarted>>>>;

    fn new_service(&self, config: AppConfig) -> Self::Future {
        let made = self.inner.new_service(config);
        let shared = self.shared.clone();
        Box::pin(async move {
            let starting = shared.starting.get();
            match made.await {
                Ok(inner) => {
                    if let Some(starting) = starting {
                        shared.workers.join();
                        if !starting.made().await {
                            return Err(NotStarted);
                        }
                    }
                    Ok(Service {
                        inner,
                        shared,
                        body: PhantomData,
                    })
                }
                Err(error) => {
                    if let Some(starting) = starting {
                        starting.failed(format!("{error:?}"));
                    }
                    Err(NotStarted)
                }
            }
        })
    }
}

impl<S, B> fmt::Debug for Application<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application").finish_non_exhaustive()
    }
}

/// An application could not be made, or is not wanted any more.
///
/// # Examples
///
/// ```
/// use handover_actix_web::foreign::NotStarted;
///
/// /// What became of an application that a worker was to make.
/// fn describe<S>(made: Result<S, NotStarted>) -> &'static str {
///     match made {
///         Ok(_) => "it serves",
///         Err(_) => "it could not be made; the log says why",
///     }
/// }
///
/// assert_eq!(describe(Ok(())), "it serves");
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NotStarted;

/// The service of an [`Application`].
///
/// # Examples
///
/// ```
/// use actix_http::{Request, Response, StatusCode};
/// use actix_web::Error;
/// use handover_actix_web::foreign::{ResponseBody, Service};
///
/// /// Has one request answered, as a dispatcher of actix's does.
/// async fn answer<S, B>(service: &Service<S, B>, request: Request) -> Result<StatusCode, Error>
/// where
///     Service<S, B>:
///         actix_service::Service<Request, Response = Response<ResponseBody<B>>, Error = Error>,
/// {
///     let answer = actix_service::Service::call(service, request).await?;
///     Ok(answer.status())
/// }
/// ```
pub struct Service<S, B> {
    inner: S,
    shared: Arc<Shared>,
    body: PhantomData<fn() -> B>,
}

impl<S, B> actix_service::Service<Request> for Service<S, B>
where
    S: actix_service::Service<Request>,
    S::Response: Into<Response<B>>,
    S::Error: Into<Error>,
    B: MessageBody + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Error;
    type Future = Responding<S::Future, B>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&self, request: Request) -> Self::Future {
        let tracking = request.conn_data::<Tracking>();
        let connection = tracking.map(|tracking| tracking.connection().clone());
        let in_flight =
            tracking.map(|tracking| tracking.request(request.method().as_str(), request.path()));
        let graceful = self.shared.graceful().clone();
        let accept = request.headers().get(header::ACCEPT).cloned();
        let mut extensions = request.extensions_mut();
        extensions.insert(graceful.clone());
        if let Some(connection) = connection {
            extensions.insert(connection);
        }
        drop(extensions);
        Responding {
            state: State::Called {
                inner: self.inner.call(request),
            },
            parts: Some((in_flight, Cut::of(graceful))),
            accept,
            body: PhantomData,
        }
    }
}

impl<S, B> fmt::Debug for Service<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

pin_project! {
    /// Response future of a [`Service`].
    ///
    /// # Examples
    ///
    /// ```
    /// use actix_http::Response;
    /// use actix_web::Error;
    /// use handover_actix_web::foreign::{Responding, ResponseBody};
    ///
    /// /// What a service around an application awaits.
    /// async fn logged<F, B>(answer: Responding<F, B>) -> Result<Response<ResponseBody<B>>, Error>
    /// where
    ///     Responding<F, B>: Future<Output = Result<Response<ResponseBody<B>>, Error>>,
    /// {
    ///     let answer = answer.await?;
    ///     println!("{}", answer.status());
    ///     Ok(answer)
    /// }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct Responding<F, B> {
        #[pin]
        state: State<F>,
        // Until the head of the answer is out; then the body carries them.
        parts: Option<(Option<InFlight>, Cut)>,
        // Tells whether it comes from an `EventSource`, which no error may be told.
        accept: Option<HeaderValue>,
        body: PhantomData<fn() -> B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] inner: F },
        Answered,
    }
}

impl<F, R, E, B> Future for Responding<F, B>
where
    F: Future<Output = Result<R, E>>,
    R: Into<Response<B>>,
    E: Into<Error>,
    B: MessageBody + 'static,
{
    type Output = Result<Response<ResponseBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let StateProj::Called { inner } = this.state.as_mut().project() else {
            return Poll::Pending; // polled after completion, which actix does not
        };
        let answered = match inner.poll(cx) {
            Poll::Ready(answered) => Some(answered),
            Poll::Pending => {
                let cut = this.parts.as_mut().map(|(_, cut)| cut.poll(cx));
                if cut != Some(Poll::Ready(())) {
                    return Poll::Pending;
                }
                // The handler is dropped here, before the client is told.
                this.state.set(State::Answered);
                None
            }
        };
        let Some((in_flight, cut)) = this.parts.take() else {
            return Poll::Pending;
        };
        let drains = cut.graceful().is_draining();
        let mut response = match answered {
            None => unavailable(in_flight, cut, this.accept.as_ref()),
            Some(Ok(response)) => {
                let response: Response<B> = response.into();
                let upgrades = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                let cut = left_http(upgrades, &in_flight, cut);
                response.map_body(|_, body| ResponseBody::given(body, in_flight, cut))
            }
            Some(Err(error)) => {
                let response: Response<BoxBody> = error.into().error_response().into();
                response.map_body(|_, body| ResponseBody::boxed(body, in_flight, cut))
            }
        };
        // A 101 keeps its `Connection: upgrade`: WebSocket clients insist on that alone.
        if drains && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response
                .head_mut()
                .set_connection_type(ConnectionType::Close);
        }
        Poll::Ready(Ok(response))
    }
}

/// The same, for a connection that is a tunnel from now on.
fn left_http(upgrades: bool, in_flight: &Option<InFlight>, cut: Cut) -> Cut {
    if !upgrades {
        return cut;
    }
    if let Some(in_flight) = in_flight {
        in_flight.upgrade();
    }
    cut.with_goodbye()
}

/// For a handler that the cut has ended.
fn unavailable<B>(
    in_flight: Option<InFlight>,
    cut: Cut,
    accept: Option<&HeaderValue>,
) -> Response<ResponseBody<B>> {
    let body = ResponseBody::empty(in_flight, cut);
    if !asks_for_events(accept) {
        return Response::with_body(StatusCode::SERVICE_UNAVAILABLE, body);
    }
    // The end of a stream is what makes an `EventSource` come back.
    let mut response = Response::with_body(StatusCode::OK, body);
    let events = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, events);
    response
}

fn asks_for_events(accept: Option<&HeaderValue>) -> bool {
    let accept = accept.and_then(|value| http::HeaderValue::from_bytes(value.as_bytes()).ok());
    handover::layer::asks_for_events(accept.as_ref())
}

impl<F, B> fmt::Debug for Responding<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responding").finish_non_exhaustive()
    }
}
