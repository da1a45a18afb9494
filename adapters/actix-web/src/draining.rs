//! What a handler may ask of a drain.

use std::{convert::Infallible, future::Ready};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload};
use handover::Graceful;

/// An extractor that sees the server's drain: for handlers that end something then, such as a
/// WebSocket, a stream of events or a long poll.
///
/// Under a server that is not Handover's it sees one that never comes.
///
/// ```
/// use actix_web::{App, web};
/// use handover_actix_web::Draining;
///
/// // A long poll that does not keep a drain waiting.
/// async fn poll(draining: Draining) -> &'static str {
///     draining.begun().await;
///     "come back"
/// }
///
/// let app = || App::new().route("/poll", web::get().to(poll));
/// # let _ = handover_actix_web::serve(app);
/// ```
#[derive(Clone, Debug)]
pub struct Draining(Graceful);

impl Draining {
    /// Returns true from the beginning of a drain on.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.0.is_draining()
    }

    /// Waits for a drain to begin. Cancel safe.
    pub async fn begun(&self) {
        self.0.draining().await;
    }

    /// The token: why the server drains, how long it will, and all else.
    #[must_use]
    pub fn graceful(&self) -> &Graceful {
        &self.0
    }
}

impl FromRequest for Draining {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let graceful = request.extensions().get::<Graceful>().cloned();
        std::future::ready(Ok(Self(graceful.unwrap_or_default())))
    }
}
