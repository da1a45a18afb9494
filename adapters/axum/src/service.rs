//! The step from the serve loop's requests to axum's.

use std::{
    any::Any,
    mem,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use axum::{Router, body::Body, extract::ConnectInfo, routing::MethodRouter};
use handover::{Address, Connection};
use handover_hyper::RequestBody;
use http::{Extensions, Request};
use http_body::Body as _;
use tower_service::Service;

/// An axum service that can be served by Handover's loop. Made by [`serve`](crate::serve).
///
/// Each request carries `ConnectInfo<SocketAddr>` (over TCP) and `ConnectInfo<Address>` (always),
/// save [without extensions](handover_hyper::Serve::without_extensions).
///
/// # Examples
///
/// ```
/// use axum::Router;
/// use handover::Graceful;
/// use handover_axum::App;
/// use handover_hyper::Serve;
/// use tokio::net::TcpListener;
///
/// /// What is the same for each listener of a service.
/// fn server(listener: TcpListener, app: Router, graceful: &Graceful) -> Serve<TcpListener, App<Router>> {
///     handover_axum::serve(listener, app)
///         .with_graceful(graceful.clone())
///         .max_connections(10_000)
/// }
/// ```
#[derive(Debug)]
pub struct App<S> {
    inner: S,
    // Where that has still to be made ready for requests, for all connections at once. With the first
    // of them: a router that many listeners share is copied for that, and many may never have one.
    ready: Option<Box<OnceLock<S>>>,
}

impl<S: 'static> App<S> {
    pub(crate) fn new(inner: S) -> Self {
        let any: &dyn Any = &inner;
        let is_unready = any.is::<Router>() || any.is::<MethodRouter>();
        Self {
            inner,
            ready: is_unready.then(Box::default),
        }
    }
}

/// Until it has its state, a router makes a service of the handler with each request.
fn make_ready<S: 'static>(mut inner: S) -> S {
    let any: &mut dyn Any = &mut inner;
    if let Some(router) = any.downcast_mut::<Router>() {
        *router = mem::take(router).with_state(());
    } else if let Some(router) = any.downcast_mut::<MethodRouter>() {
        *router = mem::take(router).with_state(());
    }
    inner
}

// The serve loop makes a clone for each connection.
impl<S: Clone + 'static> Clone for App<S> {
    fn clone(&self) -> Self {
        let ready = self.ready.as_ref();
        let ready = ready.map(|ready| ready.get_or_init(|| make_ready(self.inner.clone())));
        Self {
            inner: ready.unwrap_or(&self.inner).clone(),
            ready: None,
        }
    }
}

impl<S> Service<Request<RequestBody>> for App<S>
where
    S: Service<Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> S::Future {
        // A body that is empty needs no box, nor has anything to tell the connection.
        let body = |body: RequestBody| match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(body),
        };
        self.inner.call(request.map(body))
    }
}

/// What axum's extractors want to find of a connection.
pub(crate) fn connect_info(connection: &Arc<Connection>, extensions: &mut Extensions) {
    let peer = connection.peer().clone();
    if let Address::Tcp(addr) = peer {
        extensions.insert(ConnectInfo(addr));
    }
    extensions.insert(ConnectInfo(peer));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use axum::routing::get;

    use super::*;

    /// Counts its copies.
    struct Counted(Arc<AtomicUsize>);

    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Relaxed);
            Self(self.0.clone())
        }
    }

    #[test]
    fn routes_are_copied_with_the_first_connection_of_a_listener_and_not_again() {
        let copies = Arc::new(AtomicUsize::new(0));
        let counted = Counted(copies.clone());
        let handler = move || {
            let _ = &counted;
            async {}
        };
        let router: Router = Router::new().route("/", get(handler));
        copies.store(0, Relaxed);
        let listeners: Vec<_> = (0..10).map(|_| App::new(router.clone())).collect();
        assert_eq!(copies.load(Relaxed), 0, "nobody has connected yet");
        let first = listeners[0].clone();
        let for_one = copies.load(Relaxed);
        assert!(for_one > 0, "it has been made ready");
        drop((first.clone(), listeners[0].clone()));
        assert_eq!(copies.load(Relaxed), for_one, "it was made ready once");
    }
}
