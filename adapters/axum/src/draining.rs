//! What a handler may ask of a drain.

use std::{convert::Infallible, net::SocketAddr, ops::Deref};

use axum::extract::{ConnectInfo, FromRequestParts};
use handover::Address;
use http::{Extensions, Version, request::Parts};

use crate::foreign::Client;

/// An extractor that sees the server's drain: for handlers that have something to end then.
///
/// It is [`handover::Draining`]. Under a server that is not Handover's, and without
/// [`GracefulLayer`](handover::GracefulLayer), it sees a drain that never comes.
///
/// ```
/// use axum::{Router, http::StatusCode, routing::get};
/// use handover_axum::Draining;
///
/// // A long poll that answers early when its server drains.
/// async fn poll(draining: Draining) -> Result<String, StatusCode> {
///     let news = async { String::from("news") };
///     draining.or(news).await.ok_or(StatusCode::NO_CONTENT)
/// }
///
/// let app: Router = Router::new().route("/poll", get(poll));
/// # let _ = app;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Draining(handover::Draining);

impl Deref for Draining {
    type Target = handover::Draining;

    fn deref(&self) -> &handover::Draining {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Draining {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let draining = handover::Draining::of_parts(parts);
        Ok(Self(named(draining, &parts.extensions, parts.version)))
    }
}

/// By what axum's own loop knows of the client.
fn named(
    draining: handover::Draining,
    extensions: &Extensions,
    version: Version,
) -> handover::Draining {
    if let Some(ConnectInfo(client)) = extensions.get::<ConnectInfo<Client>>() {
        return draining.with_connection(client.connection(), version >= Version::HTTP_2);
    }
    // On Handover's loop these are there as well, and are the connection's.
    if extensions
        .get::<std::sync::Arc<handover::Connection>>()
        .is_some()
    {
        return draining;
    }
    if let Some(ConnectInfo(peer)) = extensions.get::<ConnectInfo<Address>>() {
        return draining.with_peer(peer);
    }
    match extensions.get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(peer)) => draining.with_peer(peer),
        None => draining,
    }
}
