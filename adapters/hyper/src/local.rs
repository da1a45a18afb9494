//! Connections that are accepted here, and served on threads whose services cannot leave them.
//!
//! For frameworks that have a service for each thread, such as actix-web: their services and futures
//! are not `Send`, so a connection has to come to them. [`serve`] has one accept loop, with the limits
//! and the drain of [`handover_hyper::serve`](crate::serve()), and hands each connection out; on its
//! thread it is served by [`Connection::serve`], inside a [`LocalSet`](tokio::task::LocalSet).
//!
//! Whoever takes a connection and drops it closes it.

use std::{fmt, io, sync::Arc};

use handover::{Accept, Graceful, Report, Stays, accept::Mover};
use http::{Request, Response};
use http_body::Body;
use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use crate::{
    Serve,
    accepting::{Accepted, Accepting},
    adopt::Handlers,
    body::RequestBody,
    connection::{self, BoxError},
    options::Options,
};

/// Runs the streams of HTTP/2 on the thread of their connection.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::{cell::Cell, rc::Rc};
///
/// use handover_hyper::local::LocalExecutor;
/// use hyper::rt::Executor;
/// use tokio::task::{LocalSet, yield_now};
///
/// let done = Rc::new(Cell::new(false)); // it could not go to another thread
/// let (set, told) = (LocalSet::new(), done.clone());
/// set.run_until(async move {
///     LocalExecutor::default().execute(async move { told.set(true) });
///     yield_now().await;
/// })
/// .await;
/// assert!(done.get());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// In place of a service, which others have.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use handover::Accept;
/// use handover_hyper::{Serve, local::{Elsewhere, LocalExecutor}};
///
/// /// What all listeners of a server have.
/// fn limits<A: Accept>(
///     server: Serve<A, Elsewhere, LocalExecutor>,
/// ) -> Serve<A, Elsewhere, LocalExecutor> {
///     server.idle_timeout(Duration::from_secs(60)).max_connections(10_000)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Elsewhere;

/// Accepts connections on a listener until its drain is over, for others to serve.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{convert::Infallible, rc::Rc};
///
/// use handover::Graceful;
/// use handover_hyper::{RequestBody, local};
/// use http::{Request, Response};
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
/// use tokio::{sync::mpsc, task::{LocalSet, spawn_local}};
///
/// let graceful = Graceful::new();
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let address = listener.local_addr()?;
///
/// // The thread of the services, which are not `Send`: here it is this one.
/// let (take, mut taken) = mpsc::unbounded_channel();
/// let serving = LocalSet::new();
/// serving.spawn_local(async move {
///     let greeting = Rc::new("hello");
///     let service = tower::service_fn(move |_: Request<RequestBody>| {
///         let greeting = greeting.clone();
///         async move { Ok::<_, Infallible>(Response::new(greeting.to_string())) }
///     });
///     while let Some(connection) = taken.recv().await {
///         let connection: local::Connection<TcpStream> = connection;
///         spawn_local(connection.serve(service.clone(), Ok));
///     }
/// });
///
/// // The accept loop.
/// let accepting = local::serve(listener).with_graceful(graceful.clone());
/// let accepting = tokio::spawn(accepting.hand_out(move |connection| {
///     let _ = take.send(connection);
/// }));
///
/// let report = serving
///     .run_until(async move {
///         let mut client = TcpStream::connect(address).await?;
///         client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
///         let mut answer = String::new();
///         client.read_to_string(&mut answer).await?;
///         assert!(answer.ends_with("hello"), "{answer}");
///         graceful.drain();
///         accepting.await?
///     })
///     .await?;
/// assert!(report.is_complete());
/// # Ok(())
/// # }
/// ```
pub fn serve<A: Accept>(listener: A) -> Serve<A, Elsewhere, LocalExecutor> {
    Serve {
        listener,
        service: Elsewhere,
        graceful: None,
        guard: None,
        handlers: Handlers::default(),
        options: Box::new(Options::new(LocalExecutor)),
    }
}

impl<A: Accept> Serve<A, Elsewhere, LocalExecutor> {
    /// Runs the accept loop, and gives each connection to `take`, which sends it to its thread.
    ///
    /// Ends with the report when the drain is over.
    ///
    /// # Errors
    ///
    /// If the listener does not tell its address.
    ///
    /// # Examples
    ///
    /// The other end, which serves them, is shown at [`serve`].
    ///
    /// ```
    /// # use handover::Graceful;
    /// # use tokio::net::TcpListener;
    /// # async fn example(listener: TcpListener, graceful: Graceful) -> std::io::Result<()> {
    /// use handover_hyper::local;
    ///
    /// let (take, _taken) = tokio::sync::mpsc::unbounded_channel();
    /// let accepting = local::serve(listener).with_graceful(graceful);
    /// let report = accepting.hand_out(move |connection| {
    ///     let _ = take.send(connection);
    /// });
    /// println!("{}", report.await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn hand_out(self, mut take: impl FnMut(Connection<A::Io>)) -> io::Result<Report> {
        let graceful = self.graceful.unwrap_or_default();
        let mut accepting = Accepting::new(
            self.listener,
            &graceful,
            self.guard,
            &self.options,
            &self.handlers.protocols(),
        )?;
        let options = Arc::<Options<_>>::from(self.options);
        let mover = accepting.mover(options.moves);
        while let Some(accepted) = accepting.next().await {
            let dispatched = self.handlers.dispatch(accepted, &graceful, &mover);
            let Some(accepted) = dispatched else { continue };
            take(Connection {
                accepted,
                mover: mover.clone(),
                graceful: graceful.clone(),
                options: options.clone(),
            });
        }
        // Closes the socket: what comes from now on is refused, and can be tried elsewhere.
        drop(accepting);
        Ok(graceful.drained().await)
    }
}

/// A connection that has been accepted, holds the drain open, and waits to be served.
///
/// # Examples
///
/// ```
/// use std::{convert::Infallible, io};
///
/// use handover_hyper::{RequestBody, local::Connection};
/// use http::{Request, Response};
/// use tokio::net::TcpStream;
///
/// /// Serves a connection on this thread, which has a runtime of its own.
/// async fn serve(connection: Connection<TcpStream>) {
///     let service = tower::service_fn(async |_: Request<RequestBody>| {
///         Ok::<_, Infallible>(Response::new(String::from("hello")))
///     });
///     let enter = |io: TcpStream| -> io::Result<TcpStream> { TcpStream::from_std(io.into_std()?) };
///     connection.serve(service, enter).await;
/// }
/// ```
#[must_use = "a connection that is dropped is closed"]
pub struct Connection<Io> {
    accepted: Accepted<Io>,
    mover: Result<Arc<dyn Mover<Io>>, Stays>,
    graceful: Graceful,
    options: Arc<Options<LocalExecutor>>,
}

impl<Io> Connection<Io>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Serves it to its end, on this thread.
    ///
    /// `enter` is given the connection first, which may take it out of the runtime that accepted it
    /// and into this thread's. `Ok` leaves it where it is: it works, but each of its events comes by
    /// way of the other thread.
    pub async fn serve<S, B>(self, service: S, enter: impl FnOnce(Io) -> io::Result<Io>)
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + 'static,
        S::Error: Into<BoxError>,
        S::Future: 'static,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        let Self {
            accepted,
            mover,
            graceful,
            options,
        } = self;
        // Boxed, since whoever spawns this moves it about.
        Box::pin(connection::serve(
            accepted, mover, service, graceful, &options, enter,
        ))
        .await;
    }
}

impl<Io> fmt::Debug for Connection<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection")
            .field(self.accepted.connection.peer())
            .finish()
    }
}
