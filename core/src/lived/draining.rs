//! What a handler may ask of a drain.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::time::Instant;

use super::{ClosePolicy, Closing};
use crate::{
    Graceful, Turn,
    guard::Holder,
    holder::{Describe, Holding, Kind},
};

/// A request's view of the drain of its server: for handlers that have something to end then.
///
/// Adapters have an extractor for it. Under a server that knows nothing of drains it is the default,
/// which sees one that never comes.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use handover::{Draining, Graceful};
///
/// // A long poll that answers early when its server drains.
/// async fn poll(draining: Draining, news: impl Future<Output = String>) -> Option<String> {
///     draining.or(news).await
/// }
///
/// let graceful = Graceful::new();
/// let draining = Draining::new(graceful.clone());
/// assert_eq!(poll(draining.clone(), async { "news".into() }).await.unwrap(), "news");
/// graceful.drain();
/// assert_eq!(poll(draining, std::future::pending()).await, None);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Draining {
    graceful: Graceful,
    client: Client,
}

/// Who asks.
#[derive(Clone, Default)]
struct Client {
    /// The request: its method and path.
    what: Option<Arc<str>>,
    peer: Option<Arc<str>>,
    /// Its connection, where it has one to itself.
    #[cfg(feature = "accept")]
    connection: Option<Arc<crate::Connection>>,
}

impl Draining {
    /// The view of a client that is not known.
    #[must_use]
    pub fn new(graceful: Graceful) -> Self {
        Self {
            graceful,
            client: Client::default(),
        }
    }

    /// The view of a request, by what serve loops and [`GracefulLayer`](crate::GracefulLayer) have
    /// put into its extensions.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use handover::{Draining, Graceful};
    /// use http::Request;
    ///
    /// let graceful = Graceful::new();
    /// // A serve loop or a `GracefulLayer` has put its token there.
    /// let request = Request::get("/news").extension(graceful.clone()).body(()).unwrap();
    /// let draining = Draining::of_parts(&request.into_parts().0);
    /// assert!(draining.graceful().is_same_drain(&graceful));
    /// assert!(!draining.is_begun());
    /// graceful.drain();
    /// draining.begun().await;
    /// # }
    /// ```
    #[cfg(feature = "layer")]
    #[must_use]
    pub fn of_parts(parts: &http::request::Parts) -> Self {
        let graceful = parts.extensions.get::<Graceful>().cloned();
        let this = Self::new(graceful.unwrap_or_default())
            .with_request(parts.method.as_str(), parts.uri.path());
        #[cfg(feature = "accept")]
        if let Some(connection) = parts.extensions.get::<Arc<crate::Connection>>() {
            return this.with_connection(connection, parts.version >= http::Version::HTTP_2);
        }
        this
    }

    /// Names the request, for lists of what holds the drain open.
    ///
    /// # Examples
    ///
    /// For an adaptor of a framework whose requests are not those of `http`:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), std::net::AddrParseError> {
    /// use handover::{ClosePolicy, Connection, Draining, Graceful};
    ///
    /// let graceful = Graceful::new();
    /// let draining = Draining::new(graceful.clone())
    ///     .with_request("GET", "/chat")
    ///     .with_peer("10.0.0.3:51234")
    ///     .with_connection(&Connection::new("10.0.0.3:51234".parse()?), true);
    /// let closing = draining.closing(ClosePolicy::default());
    /// assert_eq!(graceful.holders()[0].what.as_deref(), Some("GET /chat"));
    /// # drop(closing);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_request(mut self, method: &str, path: &str) -> Self {
        self.client.what = Some(format!("{method} {path}").into());
        self
    }

    /// Names the client, where its connection is not known.
    #[must_use]
    pub fn with_peer(mut self, peer: impl fmt::Display) -> Self {
        self.client.peer = Some(peer.to_string().into());
        self
    }

    /// Says which connection the request has come on. One that is `shared` with other requests, as
    /// in HTTP/2, is never the client's alone.
    #[cfg(feature = "accept")]
    #[must_use]
    pub fn with_connection(mut self, connection: &Arc<crate::Connection>, shared: bool) -> Self {
        self.client.connection = (!shared).then(|| connection.clone());
        self.with_peer(connection.peer())
    }

    /// Returns true from the beginning of a drain on.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.graceful.is_draining()
    }

    /// Waits for a drain to begin. Cancel safe.
    ///
    /// All clients see this at one moment. What is to make one come back waits for its
    /// [turn](Self::turn).
    pub async fn begun(&self) {
        self.graceful.draining().await;
    }

    /// A place in the order in which clients are told to go.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use handover::{Draining, Graceful};
    ///
    /// let graceful = Graceful::new();
    /// let draining = Draining::new(graceful.clone());
    /// graceful.drain();
    /// draining.turn().comes().await;
    /// println!("goodbye, come back in {:?}", draining.retry());
    /// # }
    /// ```
    pub fn turn(&self) -> Turn {
        self.graceful.turn()
    }

    /// Awaits a future, but no longer than until it is this client's turn to go: then it is `None`.
    ///
    /// For long polls: a client that is answered early asks again, and by then is served by somebody
    /// else. If both are there, the future's output wins.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped with this one, or when the turn comes.
    pub async fn or<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut turn = self.turn();
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => turn.poll(cx).map(|()| None),
        })
        .await
    }

    /// A stream, or a body, that ends cleanly when it is this client's turn to go.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_util::stream;
    /// use handover::{Draining, Graceful};
    ///
    /// let draining = Draining::new(Graceful::new());
    /// let lines = draining.until(stream::iter(["one", "two"]));
    /// let events = draining.events(stream::iter(["data: one\n\n"]));
    /// # drop((lines, events));
    /// ```
    #[cfg(feature = "layer")]
    pub fn until<T>(&self, inner: T) -> super::UntilDrain<T> {
        super::UntilDrain::new(inner, self.turn())
    }

    /// A stream of server-sent events, as bytes or as a body, that ends when it is this client's
    /// turn to go, after `retry:`.
    #[cfg(feature = "layer")]
    pub fn events<T>(&self, inner: T) -> super::EventsUntilDrain<T> {
        super::EventsUntilDrain::new(inner, self.turn(), self.retry())
    }

    /// How a WebSocket of this request is told to go. It is listed as one from here on.
    pub fn closing(&self, policy: ClosePolicy) -> Closing {
        Closing::new(self, policy)
    }

    /// After which time this client is to come back, when it is told to go: drawn anew each time,
    /// as the [policy](crate::Policy::with_retry) says.
    #[must_use]
    pub fn retry(&self) -> Duration {
        let part = 0.5 + fastrand::f64() / 2.0;
        self.graceful.policy().retry().mul_f64(part)
    }

    /// The token: why the server drains, how long it will, and all else.
    #[must_use]
    pub fn graceful(&self) -> &Graceful {
        &self.graceful
    }

    /// All has been said on a connection that this client has to itself.
    pub(super) fn end_well(&self) {
        #[cfg(feature = "accept")]
        if let Some(connection) = &self.client.connection {
            connection.end_well();
        }
    }

    /// Lists this client as a WebSocket, while the holder lives. A connection that it has to itself
    /// holds the drain open already, and is listed as one.
    pub(super) fn hold_websocket(&self) -> Option<Holder> {
        #[cfg(feature = "accept")]
        if let Some(connection) = &self.client.connection {
            connection.become_websocket(self.client.what.as_deref());
            return None;
        }
        self.graceful.hold_as(Arc::new(WebSocket {
            client: self.client.clone(),
            since: Instant::now(),
        }))
    }
}

impl fmt::Debug for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draining")
            .field("graceful", &self.graceful)
            .field("request", &self.client.what)
            .field("peer", &self.client.peer)
            .finish()
    }
}

struct WebSocket {
    client: Client,
    since: Instant,
}

impl Describe for WebSocket {
    fn describe(&self) -> Holding {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        Holding {
            what: text(&self.client.what),
            peer: text(&self.client.peer),
            ..Holding::new(Kind::WebSocket, self.since.elapsed())
        }
    }
}
