//! What a user writes: an application, its listeners, and how they are served.

use std::{
    fmt, io,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use actix_http::{Request, Response, body::MessageBody};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::{Error, dev::AppConfig};
use handover::{Accept, Graceful, Guard, Report};
use handover_hyper::local;
use tokio::task::JoinSet;

use crate::worker::{Workers, enter};

/// Serves an actix-web application until its drain is over; it stands in for `HttpServer::new`.
///
/// `factory` makes an `App`, once for each worker.
///
/// ```no_run
/// use actix_web::{App, web};
/// use handover::Generation;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let generation = Generation::start()?;
/// let server = handover_actix_web::serve(|| App::new().route("/", web::get().to(async || "hello")))
///     .listen(generation.listen("0.0.0.0:3000").await?)
///     .with_graceful(generation.graceful())
///     .start()
///     .await?;
/// generation.ready().await?;
/// println!("{}", server.await?);
/// # Ok(())
/// # }
/// ```
pub fn serve<F, I, S, B>(factory: F) -> Server<F, I, S, B>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request> + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Error>,
    S::InitError: fmt::Debug,
    B: MessageBody + 'static,
{
    Server {
        factory,
        listeners: Vec::new(),
        graceful: Graceful::new(),
        guard: None,
        settings: Settings::default(),
        made: PhantomData,
    }
}

/// One accept loop, which hands its connections to the workers.
type Loop = Pin<Box<dyn Future<Output = io::Result<Report>> + Send>>;
type Listening<S, B> = Box<dyn FnOnce(&Settings, Graceful, Arc<Workers<S, B>>) -> Loop + Send>;

#[derive(Clone, Debug, Default)]
struct Settings {
    workers: Option<usize>,
    keep_alive: Option<Duration>,
    client_request_timeout: Option<Duration>,
    max_connection_age: Option<Duration>,
    max_connections: Option<usize>,
    stays: bool,
}

/// A server that has not been started; made by [`serve`].
///
/// Await it, or [`start`](Self::start) it first to see its application made before the service is
/// ready. It ends, with the report, when the drain of its [`Graceful`] is over. Without
/// [`with_graceful`](Self::with_graceful) nothing ever begins one.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use actix_web::{App, web};
/// use handover::Graceful;
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
///
/// let graceful = Graceful::new();
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let address = listener.local_addr()?;
/// let server = handover_actix_web::serve(|| App::new().route("/", web::get().to(async || "hello")))
///     .listen(listener)
///     .with_graceful(graceful.clone())
///     .workers(2)
///     .keep_alive(Duration::from_secs(120))
///     .client_request_timeout(Duration::from_secs(10))
///     .max_connection_age(Duration::from_secs(3600))
///     .max_connections(10_000)
///     .move_connections(true)
///     .start()
///     .await?;
/// let server = tokio::spawn(server);
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
pub struct Server<F, I, S, B>
where
    S: ServiceFactory<Request>,
{
    factory: F,
    listeners: Vec<Listening<S::Service, B>>,
    graceful: Graceful,
    // Taken before it accepts, so that a drain that begins before the first poll waits for what
    // the kernel has queued.
    guard: Option<Guard>,
    settings: Settings,
    made: PhantomData<fn() -> I>,
}

impl<F, I, S, B> Server<F, I, S, B>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request> + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Error>,
    S::InitError: fmt::Debug,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    /// Serves on a listener; call it again for more. One of a
    /// [`Generation`](handover::Generation), or any other [`Accept`].
    pub fn listen<A: Accept>(mut self, listener: A) -> Self {
        self.listeners.push(Box::new(|settings, graceful, workers| {
            let mut server = local::serve(listener)
                .with_graceful(graceful)
                .move_connections(!settings.stays)
                // The older types have extensions of their own.
                .without_extensions();
            if let Some(limit) = settings.keep_alive {
                server = server.idle_timeout(limit);
            }
            if let Some(limit) = settings.client_request_timeout {
                server = server.header_read_timeout(limit);
            }
            if let Some(limit) = settings.max_connection_age {
                server = server.max_connection_age(limit);
            }
            if let Some(limit) = settings.max_connections {
                server = server.max_connections(limit);
            }
            Box::pin(server.hand_out(move |connection| {
                workers.give(move |app| connection.serve(app, enter));
            }))
        }));
        self
    }

    /// The token that drains this server. Several servers may share one.
    ///
    /// From here on the server holds the drain open, until it is awaited and has ended, or is
    /// dropped.
    pub fn with_graceful(mut self, graceful: Graceful) -> Self {
        self.guard = graceful.guard();
        self.graceful = graceful;
        self
    }

    /// How many threads serve. As many as there are processors by default.
    pub fn workers(mut self, count: usize) -> Self {
        self.settings.workers = Some(count);
        self
    }

    /// For how long a connection may be idle. Default 75 s, more than the 60 s of common load
    /// balancers; kept to within a quarter more.
    pub fn keep_alive(mut self, limit: Duration) -> Self {
        self.settings.keep_alive = Some(limit);
        self
    }

    /// For how long a client may take to send a request's head. Default 30 s; kept to within a
    /// quarter more.
    pub fn client_request_timeout(mut self, limit: Duration) -> Self {
        self.settings.client_request_timeout = Some(limit);
        self
    }

    /// How old a connection may get, give or take a tenth, before it is told to go elsewhere. No
    /// limit by default.
    pub fn max_connection_age(mut self, limit: Duration) -> Self {
        self.settings.max_connection_age = Some(limit);
        self
    }

    /// How many connections of each listener may be open at a time, over all workers. No limit by
    /// default.
    pub fn max_connections(mut self, limit: usize) -> Self {
        self.settings.max_connections = Some(limit);
        self
    }

    /// Whether connections without a request are given to the successor in an upgrade. Default true.
    pub fn move_connections(mut self, moves: bool) -> Self {
        self.settings.stays = !moves;
        self
    }

    /// Starts the workers, and waits until each has made its application. Nothing is accepted before
    /// the result is awaited.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started or an application cannot be made; or if there is no listener.
    pub async fn start(self) -> io::Result<Running> {
        let Self {
            factory,
            listeners,
            graceful,
            guard,
            settings,
            ..
        } = self;
        if listeners.is_empty() {
            let text = "the server has no listener: give it one by `listen`";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let count = settings.workers.unwrap_or(processors);
        let workers = Arc::new(Workers::start(count, factory).await?);
        let loops: Vec<Loop> = listeners
            .into_iter()
            .map(|listen| listen(&settings, graceful.clone(), workers.clone()))
            .collect();
        // Each loop has one of its own.
        drop(guard);
        Ok(Running::new(async move {
            let mut accepting: JoinSet<_> = loops.into_iter().collect();
            let mut report = None;
            while let Some(ended) = accepting.join_next().await {
                report = Some(ended.map_err(io::Error::other)??);
            }
            drop(accepting);
            // The loops are gone, and with them all others that hold it.
            if let Some(workers) = Arc::into_inner(workers) {
                workers.end(graceful.policy().cut_grace()).await;
            }
            match report {
                Some(report) => Ok(report),
                None => Ok(graceful.drained().await),
            }
        }))
    }
}

impl<F, I, S, B> IntoFuture for Server<F, I, S, B>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request> + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Error>,
    S::InitError: fmt::Debug,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    type Output = io::Result<Report>;
    type IntoFuture = Running;

    fn into_future(self) -> Running {
        Running::new(async move { self.start().await?.await })
    }
}

impl<F, I, S: ServiceFactory<Request>, B> fmt::Debug for Server<F, I, S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listeners", &self.listeners.len())
            .field("graceful", &self.graceful)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A server at work; made by [`Server::start`], or by awaiting it. Await it to accept.
///
/// # Examples
///
/// ```
/// use handover::Generation;
/// use handover_actix_web::Running;
///
/// /// Says that the service is ready when its application is, and serves to the end.
/// async fn serve(generation: Generation, server: Running) -> Result<(), Box<dyn std::error::Error>> {
///     generation.ready().await?;
///     println!("{}", server.await?);
///     Ok(())
/// }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Running(Pin<Box<dyn Future<Output = io::Result<Report>> + Send>>);

impl Running {
    pub(crate) fn new(server: impl Future<Output = io::Result<Report>> + Send + 'static) -> Self {
        Self(Box::pin(server))
    }
}

impl Future for Running {
    type Output = io::Result<Report>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}
