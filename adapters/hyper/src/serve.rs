//! What a user writes: a listener, a service, and how they are served.

use std::{
    fmt,
    future::{Future, IntoFuture},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use handover::{
    Accept, Connection, Graceful, Guard, Report,
    accept::{Movable, Protocol},
};
use http::{Extensions, Request, Response};
use http_body::Body;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use tower_service::Service;

use crate::{
    accepting::Accepting,
    adopt::Handlers,
    body::RequestBody,
    connection::{self, BoxError, HttpBody, HttpService},
    options::Options,
};

/// Serves a tower service on a listener until its drain is over.
///
/// ```no_run
/// use std::convert::Infallible;
///
/// use handover::Graceful;
/// use http::{Request, Response};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let graceful = Graceful::new();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// let hello = tower::service_fn(async |_: Request<handover_hyper::RequestBody>| {
///     Ok::<_, Infallible>(Response::new(String::from("hello")))
/// });
/// let report = handover_hyper::serve(listener, hello)
///     .with_graceful(graceful)
///     .await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
pub fn serve<A: Accept, S>(listener: A, service: S) -> Serve<A, S> {
    Serve {
        listener,
        service,
        graceful: None,
        guard: None,
        handlers: Handlers::default(),
        options: Box::new(Options::new(TokioExecutor::new())),
    }
}

/// A server that has not been started. Await it to serve.
///
/// Returned by [`serve`]. It ends, with the report, when the drain of its [`Graceful`] is over in
/// all stages. Without [`with_graceful`](Self::with_graceful) nothing ever begins one.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{convert::Infallible, time::Duration};
///
/// use handover::Graceful;
/// use handover_hyper::RequestBody;
/// use http::{Request, Response};
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
///
/// let graceful = Graceful::new();
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let address = listener.local_addr()?;
/// let hello = tower::service_fn(async |_: Request<RequestBody>| {
///     Ok::<_, Infallible>(Response::new(String::from("hello")))
/// });
/// let server = handover_hyper::serve(listener, hello)
///     .with_graceful(graceful.clone())
///     .header_read_timeout(Duration::from_secs(10))
///     .idle_timeout(Duration::from_secs(120))
///     .max_connection_age(Duration::from_secs(3600))
///     .max_connections(10_000)
///     .move_connections(true)
///     .http1(|http1| {
///         http1.max_buf_size(64 * 1024);
///     })
///     .http2(|http2| {
///         http2.max_concurrent_streams(100);
///     });
/// let server = tokio::spawn(server.into_future());
///
/// let mut client = TcpStream::connect(address).await?;
/// client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert!(answer.ends_with("hello"), "{answer}");
///
/// graceful.drain();
/// assert!(server.await??.is_complete());
/// # Ok(())
/// # }
/// ```
#[must_use = "servers do nothing unless awaited"]
pub struct Serve<A: Accept, S, E = TokioExecutor> {
    pub(crate) listener: A,
    pub(crate) service: S,
    // Made at the start where nobody has given one.
    pub(crate) graceful: Option<Graceful>,
    // Taken before it accepts, so that a drain that begins before the first poll waits for what
    // the kernel has queued.
    pub(crate) guard: Option<Guard>,
    pub(crate) handlers: Handlers<A::Io>,
    // Boxed, since a server is moved from builder to builder, and its future has room for it all its
    // life.
    pub(crate) options: Box<Options<E>>,
}

impl<A: Accept, S, E> Serve<A, S, E> {
    /// The token that drains this server. Several servers may share one.
    ///
    /// From here on the server holds the drain open, until it is awaited and has ended, or is
    /// dropped.
    pub fn with_graceful(mut self, graceful: Graceful) -> Self {
        self.guard = graceful.guard();
        self.graceful = Some(graceful);
        self
    }

    /// For how long a client may take to send a request's head, from its first byte; for the first
    /// request, from the connection on. Default 30 s; kept to within a quarter more.
    pub fn header_read_timeout(mut self, limit: Duration) -> Self {
        self.options.header_read = limit;
        self
    }

    /// For how long a connection may be idle. Default 75 s, more than the 60 s of common load
    /// balancers, so that the side that sends the requests is the one to close; kept to within a
    /// quarter more.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.options.idle = limit;
        self
    }

    /// How old a connection may get, give or take a tenth. Then it is told to go elsewhere, by
    /// `Connection: close` or GOAWAY, and closed when it is idle. No limit by default.
    pub fn max_connection_age(mut self, limit: Duration) -> Self {
        self.options.age = Some(limit);
        self
    }

    /// Whether connections without a request are given to the successor in an upgrade, so that no
    /// client sees one closed; and upgraded ones, when the application gives them. Default true; it
    /// takes a listener that can, such as a generation's. Otherwise they are told to go elsewhere,
    /// and closed.
    pub fn move_connections(mut self, moves: bool) -> Self {
        self.options.moves = moves;
        self
    }

    /// Leaves the connection and the token out of the requests' extensions, which are most of what
    /// this loop adds to a request: four allocations.
    ///
    /// For services that take both from the [`RequestBody`], or need neither. A
    /// [`GracefulLayer`](handover::GracefulLayer) or an extractor further in finds nothing then: do
    /// without them. An adapter adds none of its own either, such as axum's `ConnectInfo`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use handover::Connection;
    /// use handover_hyper::RequestBody;
    /// use http::{Request, Response};
    ///
    /// /// Takes what it needs from the body.
    /// async fn requests(request: Request<RequestBody>) -> Result<Response<String>, Infallible> {
    ///     let connection: &Connection = request.body().connection();
    ///     Ok(Response::new(format!("your request number {}", connection.requests())))
    /// }
    ///
    /// # async fn example(listener: tokio::net::TcpListener) -> std::io::Result<()> {
    /// let service = tower::service_fn(requests);
    /// let report = handover_hyper::serve(listener, service).without_extensions().await?;
    /// # drop(report);
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_extensions(mut self) -> Self {
        self.options.facts = None;
        self
    }

    /// Adds to the extensions of each request what `put` puts there for its connection.
    ///
    /// It is called once for each connection, and its values are cloned for each request: for what
    /// adapters and services want to find of a connection, such as axum's `ConnectInfo`. Without effect
    /// [without extensions](Self::without_extensions), whichever is called first.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::convert::Infallible;
    /// # use http::{Request, Response};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// #[derive(Clone)]
    /// struct Peer(String);
    ///
    /// let hello = tower::service_fn(async |request: Request<handover_hyper::RequestBody>| {
    ///     let Peer(peer) = request.extensions().get().expect("each connection has one");
    ///     Ok::<_, Infallible>(Response::new(format!("hello, {peer}")))
    /// });
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    /// handover_hyper::serve(listener, hello)
    ///     .with_connection_extensions(|connection, extensions| {
    ///         extensions.insert(Peer(connection.peer().to_string()));
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_connection_extensions<F>(mut self, put: F) -> Self
    where
        F: Fn(&Arc<Connection>, &mut Extensions) + Send + Sync + 'static,
    {
        if let Some(facts) = &mut self.options.facts {
            facts.add(put);
        }
        self
    }

    /// Serves with `handler` what a predecessor gives of this protocol on this listener: connections
    /// that were upgraded, made [`movable`](crate::movable), and given away. What is of a protocol
    /// without a handler stays with the predecessor.
    ///
    /// `handler` runs in a task of its own, and the drain waits for the connection.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower::service_fn as app;
    /// use handover::accept::{Movable, Protocol};
    /// use tokio::net::{TcpListener, TcpStream};
    ///
    /// const CHAT: Protocol = Protocol::new("chat", 1);
    ///
    /// /// Goes on with a session where the predecessor has left it.
    /// async fn chat(mut session: Movable<TcpStream>) {
    ///     let room = session.take_state().unwrap_or_default();
    ///     println!("{} is back in {}", session.peer(), String::from_utf8_lossy(&room));
    /// }
    ///
    /// # async fn example(listener: TcpListener) -> std::io::Result<()> {
    /// # let app = app(async |_: http::Request<handover_hyper::RequestBody>| {
    /// #     Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    /// # });
    /// let report = handover_hyper::serve(listener, app).adopt(CHAT, chat).await?;
    /// # drop(report);
    /// # Ok(())
    /// # }
    /// ```
    pub fn adopt<H, F>(mut self, protocol: Protocol, handler: H) -> Self
    where
        H: Fn(Movable<A::Io>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.handlers.add(protocol, handler);
        self
    }

    /// How many connections may be open at a time. Others wait in the kernel's queue. No limit by
    /// default.
    pub fn max_connections(mut self, limit: usize) -> Self {
        self.options.connections = Some(limit);
        self
    }

    /// Sets hyper's options for HTTP/1.
    ///
    /// `pipeline_flush` must stay off, and time limits are this loop's own.
    pub fn http1(mut self, set: impl FnOnce(&mut http1::Builder)) -> Self {
        self.options.http1.as_mut().map(set);
        self
    }

    /// Sets hyper's options for HTTP/2.
    pub fn http2(mut self, set: impl FnOnce(&mut http2::Builder<E>)) -> Self {
        self.options.http2.as_mut().map(set);
        self
    }

    /// Speaks HTTP/1 only.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example(listener: tokio::net::TcpListener, management: tokio::net::TcpListener) {
    /// # let app = tower::service_fn(async |_: http::Request<handover_hyper::RequestBody>| {
    /// #     Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    /// # });
    /// let rpc = handover_hyper::serve(listener, app).http2_only();
    /// let pages = handover_hyper::serve(management, app).http1_only();
    /// let (rpc, pages) = tokio::join!(rpc.into_future(), pages.into_future());
    /// # drop((rpc, pages));
    /// # }
    /// ```
    pub fn http1_only(mut self) -> Self {
        self.options.http2 = None;
        self
    }

    /// Speaks HTTP/2 only, by prior knowledge.
    pub fn http2_only(mut self) -> Self {
        self.options.http1 = None;
        self
    }
}

impl<A: Accept, S, E: fmt::Debug> fmt::Debug for Serve<A, S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("graceful", &self.graceful)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<A: Accept, S> Serve<A, S> {
    async fn run<B>(self) -> io::Result<Report>
    where
        S: HttpService<B> + Send,
        S::Future: Send,
        B: HttpBody + Send,
        B::Data: Send,
    {
        let graceful = self.graceful.unwrap_or_default();
        let mut accepting = Accepting::new(
            self.listener,
            &graceful,
            self.guard,
            &self.options,
            &self.handlers.protocols(),
        )?;
        let options = Arc::<Options>::from(self.options);
        let mover = accepting.mover(options.moves);
        while let Some(accepted) = accepting.next().await {
            let dispatched = self.handlers.dispatch(accepted, &graceful, &mover);
            let Some(accepted) = dispatched else { continue };
            let service = self.service.clone();
            let graceful = graceful.clone();
            let options = options.clone();
            let mover = mover.clone();
            // Boxed, since tokio moves what it is given from here to there eight times until it has
            // ended, and this is large.
            tokio::spawn(Box::pin(async move {
                connection::serve(accepted, mover, service, graceful, &options, Ok).await;
            }));
        }
        // Closes the socket: what comes from now on is refused, and can be tried elsewhere.
        drop(accepting);
        Ok(graceful.drained().await)
    }
}

impl<A, S, B> IntoFuture for Serve<A, S>
where
    A: Accept,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Output = io::Result<Report>;
    type IntoFuture = ServeFuture;

    fn into_future(self) -> ServeFuture {
        ServeFuture(Box::pin(self.run()))
    }
}

/// A server at work. Made by awaiting [`Serve`].
///
/// # Examples
///
/// ```
/// use handover::Graceful;
/// use handover_hyper::ServeFuture;
///
/// /// Runs two servers of one drain.
/// async fn both(public: ServeFuture, management: ServeFuture) -> std::io::Result<()> {
///     let (public, management) = tokio::try_join!(public, management)?;
///     println!("{public}; {management}");
///     Ok(())
/// }
///
/// # async fn example(
/// #     listener: tokio::net::TcpListener,
/// #     other: tokio::net::TcpListener,
/// # ) -> std::io::Result<()> {
/// # let app = tower::service_fn(async |_: http::Request<handover_hyper::RequestBody>| {
/// #     Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
/// # });
/// let graceful = Graceful::new();
/// let public = handover_hyper::serve(listener, app).with_graceful(graceful.clone());
/// let management = handover_hyper::serve(other, app).with_graceful(graceful);
/// both(public.into_future(), management.into_future()).await
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct ServeFuture(Pin<Box<dyn Future<Output = io::Result<Report>> + Send>>);

impl Future for ServeFuture {
    type Output = io::Result<Report>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ServeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeFuture").finish_non_exhaustive()
    }
}
