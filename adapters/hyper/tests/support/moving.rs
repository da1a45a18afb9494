//! Serve loops of one process that give each other their connections, as generations do.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use handover::{
    Accept, Address, Connection, Graceful, Kind, Policy, Reason, Report,
    accept::{Arrival, Departures, Giving, Mover, Parcel},
};
use handover_hyper::Serve;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::{Client, ScriptService};

type Queue = mpsc::UnboundedSender<Arrival<TcpStream>>;

/// The way to the next loop.
#[derive(Default)]
pub struct Way {
    to: Mutex<Option<Queue>>,
    pub refuses: AtomicBool,
    /// Neither takes nor refuses, until it is let go.
    pub silent: Mutex<Option<Arc<Semaphore>>>,
    /// The turns of idle connections.
    pub departures: Mutex<Departures>,
    pub moved: AtomicUsize,
    pub asked: AtomicUsize,
}

impl Way {
    pub fn close(&self) {
        *self.to.lock().unwrap() = None;
    }

    pub fn moved(&self) -> usize {
        self.moved.load(Ordering::Relaxed)
    }
}

struct ToNext(Arc<Way>);

impl Mover<TcpStream> for ToNext {
    fn is_open(&self) -> bool {
        self.0.to.lock().unwrap().is_some()
    }

    fn departures(&self) -> Departures {
        self.0.departures.lock().unwrap().clone()
    }

    fn give(&self, parcel: Parcel<TcpStream>) -> Giving<TcpStream> {
        let way = self.0.clone();
        Box::pin(async move {
            way.asked.fetch_add(1, Ordering::Relaxed);
            let silent = way.silent.lock().unwrap().clone();
            if let Some(silent) = silent {
                silent.acquire().await.unwrap().forget();
            }
            let to = way.to.lock().unwrap().clone();
            let Some(to) = to.filter(|_| !way.refuses.load(Ordering::Relaxed)) else {
                return Err(parcel);
            };
            // Out of the reactor, and a duplicate stays here, as between two processes.
            let (unread, connection) = (parcel.unread, parcel.connection);
            let ours = OwnedFd::from(parcel.io.into_std().unwrap());
            let theirs = std::net::TcpStream::from(ours.try_clone().unwrap());
            let theirs = TcpStream::from_std(theirs).unwrap();
            let age = connection.since().elapsed();
            let requests = connection.requests();
            let adopted = Connection::adopted(connection.peer().clone(), age, requests);
            let (claim, claimed) = oneshot::channel();
            let arrival = Arrival::new(Parcel::new(theirs, unread.clone(), adopted), async {
                let _ = claim.send(());
            });
            drop(to.send(arrival));
            match claimed.await {
                Ok(()) => {
                    way.moved.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                Err(_) => {
                    let io = TcpStream::from_std(std::net::TcpStream::from(ours)).unwrap();
                    Err(Parcel::new(io, unread, connection))
                }
            }
        })
    }
}

pub struct Movable {
    listener: TcpListener,
    arrivals: mpsc::UnboundedReceiver<Arrival<TcpStream>>,
    way: Arc<Way>,
}

impl Accept for Movable {
    type Io = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, Address)>> {
        Accept::poll_accept(&mut self.listener, cx)
    }

    fn local_addr(&self) -> io::Result<Address> {
        Accept::local_addr(&self.listener)
    }

    fn poll_adopt(&mut self, cx: &mut Context<'_>) -> Poll<Arrival<TcpStream>> {
        match self.arrivals.poll_recv(cx) {
            Poll::Ready(Some(arrival)) => Poll::Ready(arrival),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn mover(&self) -> Option<Arc<dyn Mover<TcpStream>>> {
        Some(Arc::new(ToNext(self.way.clone())))
    }
}

/// One serve loop of several on one socket.
pub struct Generation {
    pub addr: SocketAddr,
    pub graceful: Graceful,
    pub called: mpsc::UnboundedReceiver<String>,
    pub go: Arc<Semaphore>,
    pub way: Arc<Way>,
    pub done: JoinHandle<Report>,
    socket: std::net::TcpListener,
    inbox: Queue,
}

impl Generation {
    pub async fn first() -> Self {
        Self::first_with(Policy::default(), |serve| serve).await
    }

    pub async fn first_with<F>(policy: Policy, set: F) -> Self
    where
        F: FnOnce(Serve<Movable, ScriptService>) -> Serve<Movable, ScriptService>,
    {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self::on(socket, "first", policy, set)
    }

    fn on<F>(socket: std::net::TcpListener, name: &'static str, policy: Policy, set: F) -> Self
    where
        F: FnOnce(Serve<Movable, ScriptService>) -> Serve<Movable, ScriptService>,
    {
        let graceful = Graceful::with_policy(policy);
        let (inbox, arrivals) = mpsc::unbounded_channel();
        let way = Arc::new(Way::default());
        let listener = Movable {
            listener: TcpListener::from_std(socket.try_clone().unwrap()).unwrap(),
            arrivals,
            way: way.clone(),
        };
        let addr = socket.local_addr().unwrap();
        let (service, called, go) = ScriptService::new(name);
        let serve = set(handover_hyper::serve(listener, service).with_graceful(graceful.clone()));
        let done = tokio::spawn(async move { serve.await.unwrap() });
        Self {
            addr,
            graceful,
            called,
            go,
            way,
            done,
            socket,
            inbox,
        }
    }

    /// Another loop takes over, and this one drains.
    pub fn succeeded(&self) -> Self {
        self.succeeded_by("second", Policy::default(), |serve| serve)
    }

    pub fn succeeded_by<F>(&self, name: &'static str, policy: Policy, set: F) -> Self
    where
        F: FnOnce(Serve<Movable, ScriptService>) -> Serve<Movable, ScriptService>,
    {
        let next = Self::on(self.socket.try_clone().unwrap(), name, policy, set);
        self.give_way_to(&next);
        next
    }

    pub fn give_way_to(&self, next: &Self) {
        *self.way.to.lock().unwrap() = Some(next.inbox.clone());
        self.graceful.drain_for(Reason::Upgrade { successor: 1 });
    }

    pub async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            read: Vec::new(),
        }
    }

    /// A connection that has had an answer.
    pub async fn idle(&self) -> Client {
        self.idle_beside(0).await
    }

    /// The same, where there are so many already.
    pub async fn idle_beside(&self, others: usize) -> Client {
        let mut client = self.connect().await;
        client.get("/").await;
        client.until("hello").await;
        self.until_there_are(others + 1, Kind::Idle).await;
        client
    }

    /// Waits until a connection is in this state.
    pub async fn until(&self, kind: Kind) {
        self.until_there_are(1, kind).await;
    }

    pub async fn until_there_are(&self, count: usize, kind: Kind) {
        let holders = || self.graceful.holders();
        let wait = async {
            while holders().iter().filter(|h| h.kind == kind).count() != count {
                tokio::task::yield_now().await;
            }
        };
        if timeout(Duration::from_secs(10), wait).await.is_err() {
            panic!("not {count} of {kind}: {:?}", holders());
        }
    }

    /// Waits until this loop has gone.
    pub async fn gone(self) -> Report {
        let done = timeout(Duration::from_secs(10), self.done).await;
        done.expect("the drain hangs").unwrap()
    }
}
