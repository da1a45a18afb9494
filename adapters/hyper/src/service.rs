//! The service that hyper calls: one connection's view of the user's service.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use handover::layer::{self, ResponseFuture};
use http::{Extensions, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::{ServiceExt, util::Oneshot};
use tower_service::Service;

use crate::{
    body::{InFlight, RequestBody},
    connection::BoxError,
    facts::Facts,
    link::Link,
};

pub(crate) struct ConnService<S> {
    // hyper calls it by a shared reference, and always from the connection's task.
    service: RefCell<S>,
    link: Arc<Link>,
    // What its requests are given; cloned, which is cheaper than to put each of it in.
    extensions: Option<Extensions>,
}

impl<S> ConnService<S> {
    pub(crate) fn new(service: S, link: Arc<Link>, facts: Option<&Facts>) -> Self {
        let extensions = facts.map(|facts| facts.of(&link.connection, link.told()));
        Self {
            service: RefCell::new(service),
            link,
            extensions,
        }
    }
}

// Nothing here is ever pinned: the user's service is only called.
impl<S> Unpin for ConnService<S> {}

impl<S, B> hyper::service::Service<Request<Incoming>> for ConnService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: Body,
{
    type Response = Response<layer::ResponseBody<B, InFlight>>;
    type Error = BoxError;
    type Future = ResponseFuture<Calling<S, Request<RequestBody>>, InFlight>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(|body| RequestBody::new(body, &self.link));
        let in_flight = InFlight::begin(&self.link, &request);
        if let Some(extensions) = &self.extensions {
            request.extensions_mut().extend(extensions.clone());
        }
        let calling = Calling::new(&mut *self.service.borrow_mut(), request);
        ResponseFuture::new(calling, in_flight)
    }
}

pin_project! {
    /// A call of the user's service.
    #[project = CallingProj]
    pub(crate) enum Calling<S, R>
    where
        S: Service<R>,
    {
        Called { #[pin] future: S::Future },
        // Boxed, because it has the request, which would be moved about with every answer.
        Waiting { oneshot: Pin<Box<Oneshot<S, R>>> },
        Failed { error: Option<BoxError> },
    }
}

impl<S, R> Calling<S, R>
where
    S: Service<R, Error: Into<BoxError>> + Clone,
{
    /// Calls the service where it is ready, as nearly all are; so the request need not be kept.
    fn new(service: &mut S, request: R) -> Self {
        // Whoever is not ready is asked again, with the task's waker.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Self::Called {
                future: service.call(request),
            },
            Poll::Ready(Err(error)) => {
                let fresh = service.clone();
                *service = fresh;
                Self::Failed {
                    error: Some(error.into()),
                }
            }
            Poll::Pending => {
                // It may stand in a queue already: so it is this very one that waits.
                let fresh = service.clone();
                let waiting = std::mem::replace(service, fresh);
                let oneshot = Box::pin(waiting.oneshot(request));
                Self::Waiting { oneshot }
            }
        }
    }
}

impl<S, R> Future for Calling<S, R>
where
    S: Service<R, Error: Into<BoxError>>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            CallingProj::Called { future } => future.poll(cx).map_err(Into::into),
            CallingProj::Waiting { oneshot } => oneshot.as_mut().poll(cx).map_err(Into::into),
            CallingProj::Failed { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending, // polled after completion, which hyper does not
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Ready, pin::pin};

    use super::*;

    /// Answers who was called, when it has been asked often enough whether it is ready.
    struct Queued {
        number: u32,
        clones: Arc<std::sync::atomic::AtomicU32>,
        turns: u32,
        fails: bool,
    }

    impl Queued {
        fn new(turns: u32, fails: bool) -> Self {
            let clones = Arc::default();
            Self {
                number: 0,
                clones,
                turns,
                fails,
            }
        }
    }

    impl Clone for Queued {
        fn clone(&self) -> Self {
            let number = 1 + self
                .clones
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let clones = self.clones.clone();
            Self {
                number,
                clones,
                ..*self
            }
        }
    }

    impl Service<()> for Queued {
        type Response = u32;
        type Error = BoxError;
        type Future = Ready<Result<u32, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            match self.turns.checked_sub(1) {
                Some(left) => {
                    self.turns = left;
                    Poll::Pending
                }
                None if self.fails => Poll::Ready(Err("out of order".into())),
                None => Poll::Ready(Ok(())),
            }
        }

        fn call(&mut self, (): ()) -> Self::Future {
            std::future::ready(Ok(self.number))
        }
    }

    fn poll(calling: Pin<&mut Calling<Queued, ()>>) -> Poll<Result<u32, String>> {
        let polled = calling.poll(&mut Context::from_waker(Waker::noop()));
        polled.map_err(|error| error.to_string())
    }

    #[test]
    fn who_has_stood_in_the_queue_is_called() {
        let mut service = Queued::new(2, false);
        let mut calling = pin!(Calling::new(&mut service, ()));
        assert!(poll(calling.as_mut()).is_pending());
        assert_eq!(poll(calling), Poll::Ready(Ok(0)));
        assert_eq!(service.number, 1, "the next request is another one's");
    }

    #[test]
    fn who_is_ready_is_called_and_stays() {
        let mut service = Queued::new(0, false);
        for _ in 0..2 {
            let calling = pin!(Calling::new(&mut service, ()));
            assert_eq!(poll(calling), Poll::Ready(Ok(0)));
        }
    }

    #[test]
    fn who_has_failed_is_not_asked_again() {
        let mut service = Queued::new(0, true);
        let mut calling = pin!(Calling::new(&mut service, ()));
        assert_eq!(
            poll(calling.as_mut()),
            Poll::Ready(Err("out of order".into()))
        );
        assert_eq!(service.number, 1);
    }
}
