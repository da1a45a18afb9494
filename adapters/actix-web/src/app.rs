//! An actix application as the service that Handover's loop calls, on its own thread.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_http::{Request, Response, body::MessageBody};
use actix_service::Service as ActixService;
use handover_hyper::RequestBody;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    body::ResponseBody,
    translate::{self, Upgrade},
};

/// The application of one worker, which all its connections share.
pub(crate) struct App<S, B> {
    service: Rc<S>,
    body: PhantomData<fn() -> B>,
}

impl<S, B> App<S, B> {
    pub(crate) fn new(service: S) -> Self {
        Self {
            service: Rc::new(service),
            body: PhantomData,
        }
    }
}

impl<S, B> Clone for App<S, B> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            body: PhantomData,
        }
    }
}

impl<S, B> Service<http::Request<RequestBody>> for App<S, B>
where
    S: ActixService<Request>,
    S::Response: Into<Response<B>>,
    S::Error: Into<actix_web::Error>,
    B: MessageBody + 'static,
{
    type Response = http::Response<ResponseBody>;
    type Error = Infallible;
    type Future = AppFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if let Err(error) = ready!(self.service.poll_ready(cx)) {
            // It will say so again to the request.
            tracing::error!(error = %error.into(), "the application is not ready");
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<RequestBody>) -> Self::Future {
        let (state, upgrade) = match translate::request(request) {
            Ok((request, upgrade)) => (
                State::Called {
                    inner: self.service.call(request),
                },
                upgrade,
            ),
            Err(refusal) => (State::Refused { refusal }, None),
        };
        AppFuture {
            state,
            upgrade,
            body: PhantomData,
        }
    }
}

pin_project! {
    /// Response future of [`App`].
    pub(crate) struct AppFuture<F, B> {
        #[pin]
        state: State<F>,
        // For a request that may become a tunnel.
        upgrade: Option<Upgrade>,
        body: PhantomData<fn() -> B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] inner: F },
        Refused { refusal: translate::Refusal },
    }
}

impl<F, R, E, B> Future for AppFuture<F, B>
where
    F: Future<Output = Result<R, E>>,
    R: Into<Response<B>>,
    E: Into<actix_web::Error>,
    B: MessageBody + 'static,
{
    type Output = Result<http::Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.state.project() {
            StateProj::Called { inner } => match ready!(inner.poll(cx)) {
                Ok(response) => response.into().map_into_boxed_body(),
                Err(error) => error.into().error_response().into(),
            },
            StateProj::Refused { refusal } => return Poll::Ready(Ok(refusal.answer())),
        };
        Poll::Ready(Ok(translate::response(response, this.upgrade.take())))
    }
}

impl<S, B> fmt::Debug for App<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}
