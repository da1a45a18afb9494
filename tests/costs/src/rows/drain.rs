//! Servers with idle connections, and their drain.

use std::{convert::Infallible, time::Duration};

use axum::{Router, routing::get};
use handover::{Graceful, Policy};
use tokio::{
    runtime,
    sync::oneshot::{self, Receiver},
};

use crate::{
    Row, Run,
    memory_io::{Client, MemoryListener, Protocol, listen},
};

/// An idle connection in the drain of its server, from the word to the end of the server. The first
/// row is bare hyper.
///
/// The first run of a row makes the connections, and the second one drains them.
pub fn drain() -> Vec<Row> {
    vec![
        #[cfg(feature = "peers")]
        row("hyper/http1 + TaskTracker + CancellationToken", tracked),
        row("handover-hyper/serve", handover_hyper),
        row("handover-axum/serve", handover_axum),
    ]
}

fn row<F>(name: &'static str, serve: fn(MemoryListener, Receiver<()>) -> F) -> Row
where
    F: Future<Output = ()> + Send + 'static,
{
    Row::new(name, move |threads| {
        let run = |_| -> Run {
            let mut runtime = runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("it can be made");
            let (mut begun, mut clients) = (None, Vec::new());
            Box::new(move |times| match begun.take() {
                None => begun = Some(runtime.block_on(Begun::begin(serve, CONNECTIONS))),
                Some(server) => {
                    assert_eq!(times, CONNECTIONS);
                    clients.push(runtime.block_on(server.drain()));
                }
            })
        };
        (0..threads).map(run).collect()
    })
}

/// As many as the second run is of.
const CONNECTIONS: u64 = crate::callgrind::TIMES;

/// A server with idle connections.
#[derive(Debug)]
pub struct Begun {
    clients: Vec<Client>,
    tell: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
}

impl Begun {
    /// Connects so often, and asks once on each.
    pub async fn begin<F>(serve: impl FnOnce(MemoryListener, Receiver<()>) -> F, times: u64) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, connector) = listen(Protocol::Http1);
        let (tell, told) = oneshot::channel();
        let server = tokio::spawn(serve(listener, told));
        let mut clients = Vec::new();
        for _ in 0..times {
            let mut client = connector.connect();
            client.request().await;
            clients.push(client);
        }
        Self {
            clients,
            tell,
            server,
        }
    }

    /// Tells it to drain, and waits for its end. Returns the clients, which see it.
    ///
    /// # Panics
    ///
    /// If the server has ended before.
    pub async fn drain(self) -> impl Sized {
        self.tell.send(()).expect("the server serves");
        self.server.await.expect("the server ends well");
        self.clients
    }
}

/// Bare hyper, with what most tell its connections by, and wait for them with.
#[cfg(feature = "peers")]
pub async fn tracked(mut listener: MemoryListener, told: Receiver<()>) {
    use std::pin::pin;

    use hyper::{server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
    let mut told = pin!(told);
    loop {
        let io = tokio::select! {
            io = listener.accept() => TokioIo::new(io),
            _ = &mut told => break,
        };
        let token = token.clone();
        tracker.spawn(async move {
            let connection = http1::Builder::new().serve_connection(io, service_fn(answer));
            let mut connection = pin!(connection);
            tokio::select! {
                served = &mut connection => return drop(served),
                () = token.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            drop(connection.await);
        });
    }
    token.cancel();
    tracker.close();
    tracker.wait().await;
}

/// What a server of hyper's alone answers.
///
/// # Errors
///
/// Never.
pub async fn answer(
    _: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<String>, Infallible> {
    Ok(http::Response::new(String::from("Hello, world!")))
}

/// What axum's servers answer.
pub fn router() -> Router {
    Router::new().route("/", get(async || "Hello, world!"))
}

/// Our loop.
pub async fn handover_hyper(listener: MemoryListener, told: Receiver<()>) {
    let hello = tower::service_fn(async |_| {
        Ok::<_, Infallible>(http::Response::new(String::from("Hello, world!")))
    });
    let served = handover_hyper::serve(listener, hello).with_graceful(at_once(told));
    drop(served.await);
}

/// Our loop under axum.
pub async fn handover_axum(listener: MemoryListener, told: Receiver<()>) {
    let served = handover_axum::serve(listener, router()).with_graceful(at_once(told));
    drop(served.await);
}

// Idle connections are closed as soon as the drain begins, as those of the others are.
fn at_once(told: Receiver<()>) -> Graceful {
    let graceful = Graceful::with_policy(Policy::default().with_announce(Duration::ZERO));
    let draining = graceful.clone();
    tokio::spawn(async move {
        drop(told.await);
        draining.drain();
    });
    graceful
}
