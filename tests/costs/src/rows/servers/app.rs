//! What the servers answer.

use std::convert::Infallible;

use axum::{Router, extract::connect_info::Connected, routing::get, serve::IncomingStream};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tonic::service::Routes;

use crate::memory_io::MemoryListener;

/// Of a tower service.
pub(super) async fn answer<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(
        b"Hello, world!",
    ))))
}

/// The same as an application of axum's.
pub(super) fn router() -> Router {
    Router::new().route("/", get(async || "Hello, world!"))
}

/// The standard health service, as tonic's own crate has it.
pub(super) fn routes() -> Routes {
    let (_reporter, health) = tonic_health::server::health_reporter();
    Routes::new(health)
}

/// The answer as axum's loop wants it.
pub(super) fn plain<B>(answer: Response<B>) -> Response<axum::body::Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    answer.map(axum::body::Body::new)
}

/// The client of a connection without a kernel.
#[derive(Clone, Debug)]
pub(super) struct Nowhere;

impl Connected<IncomingStream<'_, MemoryListener>> for Nowhere {
    fn connect_info(_: IncomingStream<'_, MemoryListener>) -> Self {
        Self
    }
}
