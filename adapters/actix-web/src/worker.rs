//! The threads that applications run on, as actix has them: each with an `App` of its own.
//!
//! # Invariants
//!
//! 1. A worker takes jobs only after its application was made; one that cannot be made is an error of
//!    the server, before it is ready.
//! 2. A job that finds no worker is dropped, and its connection with it: none waits for a thread that
//!    will not come back.
//! 3. A worker ends when nobody can send it a job any more, and drops what its application spawned.

use std::{
    any::Any,
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use actix_http::{Request, body::MessageBody};
use actix_rt::{Arbiter, System};
use actix_service::{IntoServiceFactory, ServiceFactory};
use actix_web::dev::AppConfig;
use handover::{Stream, accept::ProxyStream};
#[cfg(feature = "tls")]
use handover_tls::TlsStream;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{mpsc, oneshot},
    task::LocalSet,
    time::timeout,
};

use crate::app::App;

/// What a worker does with its application: serve a connection.
type Job<S, B> =
    Box<dyn FnOnce(App<S, B>) -> Pin<Box<dyn Future<Output = ()> + 'static>> + Send + 'static>;

pub(crate) struct Workers<S, B>(Vec<Worker<S, B>>);

struct Worker<S, B> {
    jobs: mpsc::UnboundedSender<Job<S, B>>,
    // Connections.
    load: Arc<AtomicUsize>,
    ended: oneshot::Receiver<()>,
}

/// One connection of a worker.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<S: 'static, B: MessageBody + 'static> Workers<S, B> {
    /// Starts so many workers, and waits until each has its application.
    pub(crate) async fn start<F, I, SF>(count: usize, factory: F) -> io::Result<Self>
    where
        F: Fn() -> I + Send + Clone + 'static,
        I: IntoServiceFactory<SF, Request> + 'static,
        SF: ServiceFactory<Request, Config = AppConfig, Service = S> + 'static,
        SF::InitError: fmt::Debug,
    {
        let mut workers = Vec::new();
        let mut starting = Vec::new();
        for number in 0..count.max(1) {
            let (jobs, queue) = mpsc::unbounded_channel();
            let (started, start) = oneshot::channel();
            let (end, ended) = oneshot::channel();
            let factory = factory.clone();
            spawn(number, end, move || work(factory, queue, started))?;
            workers.push(Worker {
                jobs,
                load: Arc::default(),
                ended,
            });
            starting.push(start);
        }
        for start in starting {
            let died = |_| io::Error::other("a worker has died while it made its application");
            start.await.map_err(died)??;
        }
        Ok(Self(workers))
    }

    /// Gives a job to the worker with the fewest connections.
    pub(crate) fn give<Fut>(&self, job: impl FnOnce(App<S, B>) -> Fut + Send + 'static)
    where
        Fut: Future<Output = ()> + 'static,
    {
        let alive = self.0.iter().filter(|worker| !worker.jobs.is_closed());
        let Some(worker) = alive.min_by_key(|worker| worker.load.load(Relaxed)) else {
            tracing::error!("a connection was lost: no worker is alive");
            return;
        };
        worker.load.fetch_add(1, Relaxed);
        let load = Load(worker.load.clone());
        let job: Job<S, B> = Box::new(move |app| {
            let serving = job(app);
            Box::pin(async move {
                let _load = load;
                serving.await;
            })
        });
        // Dropped with its connection if the worker has died just now.
        let _ = worker.jobs.send(job);
    }

    /// Ends them, and waits for so long until they have.
    pub(crate) async fn end(self, within: Duration) {
        let ends: Vec<_> = self.0.into_iter().map(|worker| worker.ended).collect();
        let _ = timeout(within, async {
            for end in ends {
                let _ = end.await;
            }
        })
        .await;
    }
}

/// A thread of its own: an arbiter where there is a system, which handlers may ask for.
fn spawn<Fut>(
    number: usize,
    end: oneshot::Sender<()>,
    work: impl FnOnce() -> Fut + Send + 'static,
) -> io::Result<()>
where
    Fut: Future<Output = ()> + 'static,
{
    if System::try_current().is_some() {
        let arbiter = Arbiter::try_with_tokio_rt(runtime)?;
        arbiter.spawn(async move {
            actix_rt::spawn(async move {
                work().await;
                drop(end);
                Arbiter::current().stop();
            });
        });
        return Ok(());
    }
    let thread = thread::Builder::new().name(format!("handover-actix-{number}"));
    let runtime = runtime()?;
    thread.spawn(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, async move { work().await });
        drop((local, runtime));
        drop(end);
    })?;
    Ok(())
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn work<F, I, SF, B>(
    factory: F,
    mut queue: mpsc::UnboundedReceiver<Job<SF::Service, B>>,
    started: oneshot::Sender<io::Result<()>>,
) where
    F: Fn() -> I,
    I: IntoServiceFactory<SF, Request>,
    SF: ServiceFactory<Request, Config = AppConfig>,
    SF::InitError: fmt::Debug,
{
    let made = factory().into_factory().new_service(AppConfig::default());
    let service = match made.await {
        Ok(service) => service,
        Err(error) => {
            let text = format!("the application cannot be made: {error:?}");
            let _ = started.send(Err(io::Error::other(text)));
            return;
        }
    };
    let app = App::new(service);
    // Nobody waits for it if another worker has failed.
    let _ = started.send(Ok(()));
    while let Some(job) = queue.recv().await {
        tokio::task::spawn_local(job(app.clone()));
    }
}

/// Takes a connection out of the runtime that accepted it, and into this thread's, so that its
/// events come here. IO that is not known to be a socket stays where it is.
pub(crate) fn enter<Io: 'static>(io: Io) -> io::Result<Io> {
    let mut slot = Some(io);
    let any: &mut dyn Any = &mut slot;
    #[cfg(feature = "tls")]
    if let Some(tls) = any.downcast_mut::<Option<TlsStream<ProxyStream<Stream>>>>() {
        // Its handshake is done here.
        let enter = |io: ProxyStream<Stream>| io.try_map(enter);
        *tls = tls.take().map(|tls| tls.try_map_io(enter)).transpose()?;
        return slot.ok_or_else(taken);
    }
    #[cfg(feature = "tls")]
    if let Some(tls) = any.downcast_mut::<Option<TlsStream<Stream>>>() {
        *tls = tls.take().map(|tls| tls.try_map_io(enter)).transpose()?;
        return slot.ok_or_else(taken);
    }
    if let Some(proxied) = any.downcast_mut::<Option<ProxyStream<Stream>>>() {
        *proxied = proxied.take().map(|io| io.try_map(enter)).transpose()?;
    } else if let Some(stream) = any.downcast_mut::<Option<Stream>>() {
        *stream = match stream.take() {
            Some(Stream::Tcp(tcp)) => Some(Stream::Tcp(tcp_here(tcp)?)),
            Some(Stream::Unix(unix)) => Some(Stream::Unix(unix_here(unix)?)),
            other => other,
        };
    } else if let Some(tcp) = any.downcast_mut::<Option<TcpStream>>() {
        *tcp = tcp.take().map(tcp_here).transpose()?;
    } else if let Some(unix) = any.downcast_mut::<Option<UnixStream>>() {
        *unix = unix.take().map(unix_here).transpose()?;
    }
    slot.ok_or_else(taken)
}

fn taken() -> io::Error {
    io::Error::other("it was taken and not given back")
}

fn tcp_here(io: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(io.into_std()?)
}

fn unix_here(io: UnixStream) -> io::Result<UnixStream> {
    UnixStream::from_std(io.into_std()?)
}
