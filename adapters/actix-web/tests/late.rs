//! actix's threads on a machine that is late to run them: what they have accepted is answered, though
//! they look at it only after the server was told to stop.

#![cfg(target_os = "linux")]

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, OnceLock},
    time::Duration,
};

use actix_web::{App, rt, web};
use handover::{Address, Generation, GenerationBuilder, Graceful, Reason, testing::Service};
use handover_actix_web::foreign;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const BOUND: Duration = Duration::from_secs(20);
const WINDOW: Duration = Duration::from_millis(500);
/// How late a thread is: later than it takes to stop a server on a machine that has nothing else to do.
const LATE: Duration = Duration::from_millis(50);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Holds a thread until it is let go.
#[derive(Default)]
struct Hold {
    holds: watch::Sender<bool>,
    let_go: Mutex<bool>,
    told: Condvar,
}

impl Hold {
    /// For the thread.
    fn here(&self) {
        self.holds.send_replace(true);
        let held = self.let_go.lock().unwrap();
        drop(self.told.wait_timeout_while(held, BOUND, |let_go| !*let_go));
    }

    async fn holds(&self) {
        let mut holds = self.holds.subscribe();
        let held = timeout(BOUND, holds.wait_for(|holds| *holds)).await;
        held.expect("a thread that comes here").unwrap();
    }

    fn let_go(&self) {
        *self.let_go.lock().unwrap() = true;
        self.told.notify_all();
    }
}

/// A server with one worker.
struct Server {
    graceful: Graceful,
    address: SocketAddr,
    /// Of the worker's thread.
    hold: Arc<Hold>,
    listener: OwnedFd,
    ended: Pin<Box<dyn Future<Output = ()>>>,
}

impl Server {
    async fn start() -> Self {
        let (ready, is_ready) = mpsc::unbounded_channel();
        let service = Service::start(move |builder| program(builder, ready.clone()));
        let service = service.await.unwrap();
        let ended = Box::pin(async move {
            let outcome = service.current().ended().await;
            assert!(outcome.is_success(), "{outcome}");
        });
        Self::new(is_ready, ended).await
    }

    /// In this thread's system of actix's: its worker is an arbiter.
    async fn start_in_system() -> Self {
        let (ready, is_ready) = mpsc::unbounded_channel();
        let running = rt::spawn(program(Generation::builder(), ready));
        let ended = Box::pin(async move { running.await.unwrap().unwrap() });
        Self::new(is_ready, ended).await
    }

    async fn new(
        mut is_ready: mpsc::UnboundedReceiver<Ready>,
        ended: Pin<Box<dyn Future<Output = ()>>>,
    ) -> Self {
        let ready = timeout(BOUND, is_ready.recv()).await;
        let (graceful, address, hold, listener) = ready.expect("it starts").unwrap();
        Self {
            graceful,
            address: address.as_socket_addr().unwrap(),
            hold,
            listener,
            ended,
        }
    }

    async fn ask(&self, path: &str, connection: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        send(&mut client, path, connection).await;
        client
    }

    /// Waits until the accept thread has taken all that the kernel had.
    async fn has_accepted(&self) {
        let accepted = async {
            let listener = PollFd::new(&self.listener, PollFlags::IN);
            while poll(&mut [listener.clone()], Some(&Timespec::default())).unwrap() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(BOUND, accepted).await.expect("it accepts");
    }

    async fn ended(self) {
        timeout(BOUND, self.ended).await.expect("it ends");
        let report = self.graceful.report().unwrap();
        assert!(report.is_complete(), "{report}");
    }
}

type Ready = (Graceful, Address, Arc<Hold>, OwnedFd);

async fn program(builder: GenerationBuilder, ready: mpsc::UnboundedSender<Ready>) -> Result<()> {
    let graceful = Graceful::builder()
        .deadline(BOUND)
        .upgrade_deadline(BOUND)
        .announce(WINDOW)
        .build();
    let generation = builder.graceful(graceful.clone()).start()?;
    let listener = generation.listen("web=127.0.0.1:0").await?;
    let hold = Arc::new(Hold::default());
    let (address, duplicate) = (
        listener.local_addr()?,
        listener.as_fd().try_clone_to_owned()?,
    );
    let about = (graceful.clone(), address, hold.clone(), duplicate);
    let app = {
        let graceful = graceful.clone();
        move || {
            App::new()
                .app_data(web::Data::new(graceful.clone()))
                .app_data(web::Data::from(hold.clone()))
                .route("/", web::get().to(async || "hello"))
                .route("/hold", web::get().to(hold_the_thread))
                .route("/hold-after", web::get().to(hold_the_thread_after))
        }
    };
    let server = foreign::serve(app)
        .workers(1)
        .listen(listener)
        .with_graceful(graceful)
        .start()
        .await?;
    generation.ready().await?;
    ready.send(about)?;
    server.await?;
    Ok(())
}

async fn hold_the_thread(hold: web::Data<Hold>) -> &'static str {
    hold.here();
    "held"
}

/// Once this request's connection has gone.
async fn hold_the_thread_after(
    hold: web::Data<Hold>,
    graceful: web::Data<Graceful>,
) -> &'static str {
    rt::spawn(async move {
        while !graceful.holders().is_empty() {
            tokio::task::yield_now().await;
        }
        hold.here();
    });
    "held"
}

/// What actix's accept thread logs, and its thread is held at.
struct Logged {
    holds: Mutex<HashMap<String, Arc<Hold>>>,
}

impl Logged {
    /// Once for all tests.
    fn get() -> &'static Self {
        static LOGGED: OnceLock<Logged> = OnceLock::new();
        LOGGED.get_or_init(|| {
            tracing::subscriber::set_global_default(Log).unwrap();
            Self {
                holds: Mutex::default(),
            }
        })
    }

    /// From now on the thread is held where it says this of the listener.
    fn is_held_at(says: &str, listener: SocketAddr) -> Arc<Hold> {
        let hold = Arc::new(Hold::default());
        let text = format!("{says} accepting connections on {listener}");
        Self::get().holds.lock().unwrap().insert(text, hold.clone());
        hold
    }

    /// The same, but it is let go at once.
    fn is_seen(says: &str, listener: SocketAddr) -> Arc<Hold> {
        let hold = Self::is_held_at(says, listener);
        hold.let_go();
        hold
    }

    fn here(&self, text: &str) {
        let hold = self.holds.lock().unwrap().get(text).cloned();
        if let Some(hold) = hold {
            hold.here();
        }
    }
}

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "actix_server::accept"
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Message;

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            Logged::get().here(&format!("{value:?}"));
        }
    }
}

async fn send(client: &mut TcpStream, path: &str, connection: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
}

async fn answer(mut client: TcpStream) -> String {
    let mut answer = String::new();
    // An error: what had come until then is looked at.
    let read = timeout(BOUND, client.read_to_string(&mut answer)).await;
    let _ = read.expect("an end");
    answer
}

async fn assert_answered(client: TcpStream, body: &str) {
    let answer = answer(client).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert!(answer.contains("connection: close\r\n"), "{answer:?}");
    assert!(answer.ends_with(body), "{answer:?}");
}

/// So many come while the worker's thread is held, and until the window is over.
async fn are_answered(server: Server, count: usize) {
    let holding = server.ask("/hold", "keep-alive").await;
    server.hold.holds().await;
    let mut waiting = Vec::new();
    for _ in 0..count {
        waiting.push(server.ask("/", "keep-alive").await);
    }
    server.has_accepted().await;
    server.graceful.drain();
    assert!(server.graceful.announced().await);
    sleep(LATE).await;
    server.hold.let_go();
    for waiting in waiting {
        assert_answered(waiting, "hello").await;
    }
    assert_answered(holding, "held").await;
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_worker_at_the_end_of_the_window_is_answered() {
    are_answered(Server::start().await, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_its_worker_takes_at_once_is_answered() {
    are_answered(Server::start().await, 400).await;
}

#[test]
fn in_a_system_more_than_its_worker_takes_at_once_is_answered() {
    rt::System::new().block_on(async {
        are_answered(Server::start_in_system().await, 400).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_worker_is_answered_though_no_other_connection_is_left() {
    let server = Server::start().await;
    assert_answered(server.ask("/hold-after", "close").await, "held").await;
    server.hold.holds().await;
    let waiting = server.ask("/", "keep-alive").await;
    server.has_accepted().await;
    server.graceful.drain();
    sleep(LATE).await;
    server.hold.let_go();
    assert_answered(waiting, "hello").await;
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_arrived_on_an_idle_connection_is_answered() {
    let server = Server::start().await;
    let mut idle = server.ask("/", "keep-alive").await;
    let mut answer = [0; 1024];
    assert!(
        timeout(BOUND, idle.read(&mut answer))
            .await
            .unwrap()
            .unwrap()
            > 0
    );
    let holding = server.ask("/hold", "keep-alive").await;
    server.hold.holds().await;
    send(&mut idle, "/", "keep-alive").await;
    server.graceful.drain();
    assert!(server.graceful.announced().await);
    sleep(LATE).await;
    server.hold.let_go();
    assert_answered(idle, "hello").await;
    assert_answered(holding, "held").await;
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_after_the_server_was_told_to_pause_is_answered() {
    let server = Server::start().await;
    // So that the drain has its whole window.
    let idle = server.ask("/", "keep-alive").await;
    idle.readable().await.unwrap();
    let paused = Logged::is_seen("paused", server.address);
    let accepts_again = Logged::is_held_at("resume", server.address);
    let upgrade = Reason::Upgrade { successor: 1 };
    assert!(server.graceful.drain_for(upgrade));
    paused.holds().await;
    assert!(server.graceful.resume());
    accepts_again.holds().await;
    let waiting = server.ask("/", "keep-alive").await;
    server.graceful.drain();
    assert!(server.graceful.announced().await);
    sleep(LATE).await;
    accepts_again.let_go();
    assert_answered(waiting, "hello").await;
    drop(idle);
    server.ended().await;
}

/// Nobody is there, and then somebody comes while it is paused.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_not_taken_for_the_next_one() {
    let server = Server::start().await;
    assert_answered(server.ask("/hold-after", "close").await, "held").await;
    server.hold.holds().await;
    let paused = Logged::is_held_at("paused", server.address);
    server.graceful.drain();
    paused.holds().await;
    let waiting = server.ask("/", "keep-alive").await;
    server.hold.let_go();
    assert!(server.graceful.announced().await);
    sleep(LATE).await;
    paused.let_go();
    assert_answered(waiting, "hello").await;
    server.ended().await;
}
