//! What a handler may ask of a drain.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    ops::Deref,
    sync::Arc,
};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload, http::Version};
use handover::{Connection, Graceful};

/// An extractor that sees the server's drain: for handlers that have something to end then.
///
/// It is [`handover::Draining`]. Under a server that is not Handover's it sees a drain that never
/// comes.
///
/// ```
/// use actix_web::{App, HttpResponse, Responder, http::StatusCode, web};
/// use futures_util::stream;
/// use handover_actix_web::Draining;
///
/// // A long poll that answers early when its server drains.
/// async fn poll(draining: Draining) -> (String, StatusCode) {
///     let news = async { String::from("news") };
///     match draining.or(news).await {
///         Some(news) => (news, StatusCode::OK),
///         None => (String::new(), StatusCode::NO_CONTENT),
///     }
/// }
///
/// // A stream of events that ends as an `EventSource` understands it, which then comes back.
/// async fn events(draining: Draining) -> impl Responder {
///     let events = stream::pending::<actix_web::Result<web::Bytes>>();
///     HttpResponse::Ok()
///         .content_type("text/event-stream")
///         .streaming(draining.events(events))
/// }
///
/// let app = || {
///     App::new()
///         .route("/poll", web::get().to(poll))
///         .route("/events", web::get().to(events))
/// };
/// # let _ = handover_actix_web::serve(app);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Draining(handover::Draining);

impl Deref for Draining {
    type Target = handover::Draining;

    fn deref(&self) -> &handover::Draining {
        &self.0
    }
}

impl FromRequest for Draining {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let extensions = request.extensions();
        let graceful = extensions.get::<Graceful>().cloned();
        let draining = handover::Draining::new(graceful.unwrap_or_default())
            .with_request(request.method().as_str(), request.path());
        let shared = request.version() >= Version::HTTP_2;
        ready(Ok(Self(match extensions.get::<Arc<Connection>>() {
            Some(connection) => draining.with_connection(connection, shared),
            None => draining,
        })))
    }
}
