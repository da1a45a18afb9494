//! The step from the serve loop's requests to axum's.

use std::{
    any::Any,
    mem,
    sync::Arc,
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
#[derive(Clone, Debug)]
pub struct App<S> {
    inner: S,
}

impl<S: 'static> App<S> {
    pub(crate) fn new(mut inner: S) -> Self {
        // Until it has its state, a router makes a service of the handler with each request.
        let any: &mut dyn Any = &mut inner;
        if let Some(router) = any.downcast_mut::<Router>() {
            *router = mem::take(router).with_state(());
        } else if let Some(router) = any.downcast_mut::<MethodRouter>() {
            *router = mem::take(router).with_state(());
        }
        Self { inner }
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
