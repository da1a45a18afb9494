//! What a user writes: an application, its listeners, and actix's settings.

use std::{
    any::Any,
    fmt, io,
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixListener,
    },
    sync::{Arc, OnceLock},
    thread,
};

use actix_http::{Extensions, Request, Response, body::MessageBody};
use actix_rt::System;
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::{Error, HttpServer, dev::AppConfig};
use handover::{Address, Graceful, Guard, Listener};
use tokio::sync::oneshot;

use super::{
    acceptor::Acceptor,
    application::Application,
    body::ResponseBody,
    conduct::Conductor,
    connection::{Open, Tracking},
    starting::Starting,
    workers::Workers,
};
use crate::Running;

/// More than any drain takes, in seconds: it is ours that counts.
const NEVER: u64 = 10 * 365 * 24 * 3600;
/// actix's own limit.
const MOST_WORKERS: usize = 512;

type OnConnect = Box<dyn Fn(&dyn Any, &mut Extensions) + Send + Sync>;

/// What the parts of one server share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    // Both are set before the first worker starts.
    graceful: OnceLock<Graceful>,
    pub(super) starting: OnceLock<Starting>,
    pub(super) open: Arc<Open>,
    pub(super) workers: Workers,
}

impl Shared {
    pub(super) fn graceful(&self) -> &Graceful {
        self.graceful.get_or_init(Graceful::new)
    }
}

/// Serves an actix-web application with actix's own `HttpServer`, until its drain is over.
///
/// `factory` makes an `App`, once for each worker and listener. See the [module](super).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use actix_web::{App, web};
/// use handover::Generation;
/// use handover_actix_web::foreign;
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpStream};
///
/// let generation = Generation::start()?;
/// let listener = generation.listen("127.0.0.1:0").await?;
/// let address = listener.local_addr()?.to_string();
/// let server = foreign::serve(|| App::new().route("/", web::get().to(async || "hello")))
///     .listen(listener)
///     .with_graceful(generation.graceful())
///     .workers(1)
///     .start()
///     .await?;
/// generation.ready().await?;
/// let server = tokio::spawn(server);
///
/// let mut client = TcpStream::connect(address).await?;
/// client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert!(answer.ends_with("hello"), "{answer}");
///
/// generation.graceful().drain();
/// assert!(server.await??.is_complete());
/// # Ok(())
/// # }
/// ```
pub fn serve<F, I, S, B>(
    factory: F,
) -> Server<impl Fn() -> Application<S, B> + Send + Clone + 'static, S, B>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request> + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let shared = Arc::new(Shared::default());
    let factory = {
        let shared = shared.clone();
        move || Application::new(factory().into_factory(), shared.clone())
    };
    Server {
        factory,
        settings: Vec::new(),
        shared,
        listeners: Vec::new(),
        graceful: Graceful::new(),
        guard: None,
        workers: None,
        on_connect: None,
    }
}

/// An `HttpServer` that has not been started; made by [`serve`].
///
/// Await it, or [`start`](Self::start) it first to see its application made before the service is
/// ready. It ends, with the report, when the drain of its [`Graceful`] is over.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use actix_web::{App, web};
/// use handover::{Graceful, Listener};
/// use handover_actix_web::{Running, foreign};
///
/// async fn start(listener: Listener, graceful: Graceful) -> std::io::Result<Running> {
///     foreign::serve(|| App::new().route("/", web::get().to(async || "hello")))
///         .listen(listener)
///         .with_graceful(graceful)
///         .workers(4)
///         .on_connect(|_io, data| {
///             data.insert("known to the handlers of this connection");
///         })
///         .http(|http| http.keep_alive(Duration::from_secs(75)).max_connections(10_000))
///         .start()
///         .await
/// }
/// ```
#[must_use = "servers do nothing unless awaited"]
pub struct Server<F, S, B>
where
    F: Fn() -> Application<S, B> + Send + Clone + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Error>,
    S::InitError: fmt::Debug,
    B: MessageBody + 'static,
{
    factory: F,
    settings: Vec<Setting<F, S, B>>,
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    graceful: Graceful,
    // While it may accept, a drain cannot end between actix's accept and the connection's holder.
    guard: Option<Guard>,
    workers: Option<usize>,
    on_connect: Option<OnConnect>,
}

/// Kept until the start: an `HttpServer` stays in its thread.
type Setting<F, S, B> = Box<dyn FnOnce(Http<F, S, B>) -> Http<F, S, B> + Send>;
type Http<F, S, B> = HttpServer<F, Application<S, B>, Application<S, B>, ResponseBody<B>>;

impl<F, S, B> Server<F, S, B>
where
    F: Fn() -> Application<S, B> + Send + Clone + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Error>,
    S::InitError: fmt::Debug,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    /// Serves on a listener; call it again for more.
    pub fn listen(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// The token that drains this server. From here on the server holds the drain open, until it is
    /// awaited and has ended, or is dropped.
    pub fn with_graceful(mut self, graceful: Graceful) -> Self {
        self.guard = graceful.guard();
        self.graceful = graceful;
        self
    }

    /// How many threads serve. As many as there are processors by default; 512 at most.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = Some(count);
        self
    }

    /// Calls `f` with each new connection, as `HttpServer::on_connect` does, which is taken.
    pub fn on_connect<C>(mut self, f: C) -> Self
    where
        C: Fn(&dyn Any, &mut Extensions) + Send + Sync + 'static,
    {
        self.on_connect = Some(Box::new(f));
        self
    }

    /// Sets actix's own settings.
    ///
    /// The number of workers, `on_connect`, signals, and how long a stop may take are set by this
    /// server, whatever is set here. Give it its listeners by [`listen`](Self::listen): the connections
    /// of one that is bound here are not tracked.
    pub fn http(
        mut self,
        set: impl FnOnce(Http<F, S, B>) -> Http<F, S, B> + Send + 'static,
    ) -> Self {
        self.settings.push(Box::new(set));
        self
    }

    /// Starts the workers, and waits until each has made its applications. Nothing is accepted before
    /// the result is awaited and the generation of the listeners may accept.
    ///
    /// Where there is an actix `System`, the workers are its arbiters.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started or an application cannot be made; or if there is no listener.
    pub fn start(self) -> impl Future<Output = io::Result<Running>> + Send + use<F, S, B> {
        let begun = self.begin();
        async move {
            let (mut conductor, shared) = begun?;
            match conductor.made().await {
                Ok(()) => Ok(Running::new(conductor.conduct())),
                Err(error) => Err(match shared.starting.get().and_then(Starting::failure) {
                    Some(why) => io::Error::other(format!("the application cannot be made: {why}")),
                    None => error,
                }),
            }
        }
    }

    fn begin(self) -> io::Result<(Conductor, Arc<Shared>)> {
        let Self {
            factory,
            settings,
            shared,
            listeners,
            graceful,
            guard,
            workers,
            on_connect,
        } = self;
        if listeners.is_empty() {
            let text = "the server has no listener: give it one by `listen`";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let workers = workers.unwrap_or_else(processors).clamp(1, MOST_WORKERS);
        let wanted = workers * listeners.len();
        let (starting, made, release) = Starting::new(wanted);
        // It is this server's first and last start.
        let _ = shared.graceful.set(graceful.clone());
        let _ = shared.starting.set(starting);
        let (token, open) = (graceful.clone(), shared.open.clone());
        // As on Handover's own loop.
        let http = HttpServer::new(factory).tcp_nodelay(true);
        let mut http = settings
            .into_iter()
            .fold(http, |http, set| set(http))
            .workers(workers)
            .disable_signals()
            .shutdown_timeout(NEVER)
            .on_connect(move |io, extensions| {
                Tracking::begin(io, extensions, &token, &open);
                if let Some(on_connect) = &on_connect {
                    on_connect(io, extensions);
                }
            });
        let mut numbers = Vec::new();
        for listener in &listeners {
            let fd = listener.as_fd().try_clone_to_owned()?;
            numbers.push(fd.as_raw_fd());
            http = match listener.local_addr()? {
                Address::Unix(_) => http.listen_uds(UnixListener::from(fd))?,
                _ => http.listen(TcpListener::from(fd))?,
            };
        }
        let server = http.run();
        let handle = server.handle();
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let system = System::try_current();
        // A thread of its own: actix waits for its workers without letting go of the one it is on.
        let thread = thread::Builder::new().name("handover-actix-http".to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread.spawn(move || {
            if let Some(system) = system {
                System::set_current(system);
            }
            let outcome = runtime.block_on(async move {
                tokio::select! {
                    ended = server => ended,
                    // Dropped, it ends its workers without another word.
                    _ = stopped => Ok(()),
                }
            });
            // Nobody waits for it where the server was dropped.
            let _ = end.send(outcome);
        })?;
        let conductor = Conductor {
            graceful,
            guard,
            listeners,
            sockets: Vec::new(),
            shared: shared.clone(),
            acceptor: Acceptor::of(numbers),
            handle,
            made,
            release,
            stop: Some(stop),
            ended,
        };
        Ok((conductor, shared))
    }
}

impl<F, S, B> IntoFuture for Server<F, S, B>
where
    F: Fn() -> Application<S, B> + Send + Clone + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Error>,
    S::InitError: fmt::Debug,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    type Output = io::Result<handover::Report>;
    type IntoFuture = Running;

    fn into_future(self) -> Running {
        let start = self.start();
        Running::new(async move { start.await?.await })
    }
}

impl<F, S, B> fmt::Debug for Server<F, S, B>
where
    F: Fn() -> Application<S, B> + Send + Clone + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Error>,
    S::InitError: fmt::Debug,
    B: MessageBody + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listeners", &self.listeners)
            .field("graceful", &self.graceful)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}
