//! actix's own `HttpServer`, led by Handover: what an upgrade and a drain do with it.

#![cfg(unix)]

use std::{
    future::{Ready, pending, ready},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    dev::{ServiceRequest, ServiceResponse, Transform},
    rt, web,
};
use futures_util::{StreamExt, stream};
use handover::{
    Generation, GenerationBuilder, Graceful, Kind, Report, Stays,
    testing::{Member, Service},
};
use handover_actix_web::{Draining, foreign};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

const BOUND: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_millis(1000);
/// Of the deadline.
const WINDOW: Duration = Duration::from_millis(800);
/// A drain is over this long after its deadline, on a machine that has other things to do as well.
const LATE: Duration = Duration::from_millis(300);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Reports = Arc<Mutex<Vec<Report>>>;

/// Says its number and who asks, and has routes that never end.
async fn program(builder: GenerationBuilder, deadline: Duration, reports: Reports) -> Result<()> {
    let graceful = Graceful::builder()
        .deadline(deadline)
        .upgrade_deadline(deadline)
        .build();
    let generation = builder.graceful(graceful.clone()).start()?;
    let number = generation.number();
    let app = move || {
        App::new()
            .app_data(web::Data::new(number))
            .route("/", web::get().to(who))
            .route("/hold", web::get().to(pending::<HttpResponse>))
            .route("/hang-body", web::get().to(hang_body))
            .route("/block", web::get().to(block))
            .route("/fails", web::get().to(fails))
            .route("/poll", web::get().to(poll))
            .route("/upgrade", web::get().to(upgrade))
    };
    let server = foreign::serve(app)
        .workers(2)
        .listen(generation.listen("web=127.0.0.1:0").await?)
        .listen(generation.listen("other=127.0.0.1:0").await?)
        .with_graceful(graceful)
        .start()
        .await?;
    generation.ready().await?;
    let report = server.await?;
    reports.lock().unwrap().push(report);
    Ok(())
}

async fn who(number: web::Data<u64>, request: HttpRequest) -> String {
    format!("{} {:?}\n", number.get_ref(), request.peer_addr())
}

async fn hang_body() -> HttpResponse {
    HttpResponse::Ok().streaming(stream::pending::<io::Result<web::Bytes>>())
}

/// Does not let go of its thread.
async fn block() -> &'static str {
    std::thread::sleep(2 * DEADLINE);
    ""
}

async fn fails() -> std::result::Result<HttpResponse, Error> {
    Err(actix_web::error::ErrorImATeapot("short and stout"))
}

async fn poll(draining: Draining) -> &'static str {
    draining.begun().await;
    "come back\n"
}

/// Another protocol, in which there is a goodbye.
async fn upgrade(draining: Draining) -> HttpResponse {
    let goodbye = async move {
        draining.graceful().cutting().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok::<_, Error>(web::Bytes::from_static(b"goodbye"))
    };
    HttpResponse::SwitchingProtocols()
        .upgrade("chat")
        .streaming(stream::once(goodbye).chain(stream::pending()))
}

async fn start() -> (Service, Reports) {
    start_with(DEADLINE).await
}

async fn start_with(deadline: Duration) -> (Service, Reports) {
    let reports = Reports::default();
    let given = reports.clone();
    let service = Service::start(move |builder| program(builder, deadline, given.clone())).await;
    (service.unwrap(), reports)
}

/// A connection, and what came over it.
struct Client {
    stream: TcpStream,
    read: String,
}

impl Client {
    async fn to(address: SocketAddr) -> Self {
        let stream = timeout(BOUND, TcpStream::connect(address)).await.unwrap();
        Self {
            stream: stream.unwrap(),
            read: String::new(),
        }
    }

    async fn of(member: &Member) -> Self {
        let web = member.address("web").unwrap();
        Self::to(web.as_socket_addr().unwrap()).await
    }

    async fn get(&mut self, path: &str) {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await.unwrap();
    }

    /// Reads until the text has come, and takes all that came.
    async fn until(&mut self, text: &str) -> String {
        let reading = async {
            let mut bytes = [0; 1024];
            while !self.read.contains(text) {
                let read = self.stream.read(&mut bytes).await.unwrap();
                assert!(read > 0, "an end instead of {text:?}: {:?}", self.read);
                self.read += std::str::from_utf8(&bytes[..read]).unwrap();
            }
        };
        timeout(BOUND, reading).await.expect(text);
        std::mem::take(&mut self.read)
    }

    async fn end(mut self) -> String {
        let read = self.stream.read_to_string(&mut self.read);
        let _ = timeout(BOUND, read).await.expect("it is closed");
        self.read
    }

    async fn ask(mut self) -> String {
        self.get("/").await;
        self.until(")\n").await
    }
}

async fn held_as(graceful: &Graceful, kind: Kind, count: usize) {
    let wait = async {
        while graceful.holders().iter().filter(|h| h.kind == kind).count() != count {
            tokio::task::yield_now().await;
        }
    };
    if timeout(BOUND, wait).await.is_err() {
        panic!("not {count} times {kind}: {:?}", graceful.holders());
    }
}

/// Asks until this generation answers: the one before stops accepting once it has heard of it.
async fn answered_by(member: &Member, number: u64) -> String {
    let asking = async {
        loop {
            let answer = Client::of(member).await.ask().await;
            if answer.contains(&format!("\r\n\r\n{number} ")) {
                return answer;
            }
        }
    };
    timeout(BOUND, asking).await.expect("an answer by it")
}

async fn ended(member: &Member) {
    let outcome = timeout(BOUND, member.ended()).await.unwrap();
    assert!(outcome.is_success(), "{outcome}");
}

fn only(reports: &Reports) -> Report {
    let mut reports = reports.lock().unwrap();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_is_listed_with_its_peer_and_its_request() {
    let (service, _reports) = start().await;
    let graceful = service.current().graceful();
    let mut client = Client::of(&service.current()).await;
    held_as(&graceful, Kind::Fresh, 1).await;
    let peer = client.stream.local_addr().unwrap();
    client.get("/").await;
    assert!(client.until("\n").await.contains("HTTP/1.1 200"));
    held_as(&graceful, Kind::Idle, 1).await;
    client.get("/hang-body").await;
    held_as(&graceful, Kind::Request, 1).await;
    let text = graceful.holders()[0].to_string();
    assert!(
        text.starts_with(&format!("GET /hang-body {peer}")),
        "{text}"
    );
    // Closed with an answer unread, so that it is reset: actix lets an end alone while it answers.
    client.stream.readable().await.unwrap();
    drop(client);
    held_as(&graceful, Kind::Request, 0).await;
    assert_eq!(graceful.holders().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_pauses_it_and_the_successor_accepts() {
    let (service, reports) = start().await;
    let first = service.current();
    let mut idle = Client::of(&first).await;
    idle.get("/").await;
    assert!(idle.until(")\n").await.contains("\r\n\r\n0 "));
    let second = service.upgrade().await.unwrap();
    answered_by(&second, 1).await;
    // The other one is still there, and could accept as well.
    for _ in 0..50 {
        let answer = Client::of(&second).await.ask().await;
        assert!(answer.contains("\r\n\r\n1 "), "{answer}");
    }
    // It is told, and served; then nobody is left.
    idle.get("/").await;
    let answer = idle.end().await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.contains("\r\n\r\n0 Some("), "{answer}");
    ended(&first).await;
    let report = only(&reports);
    assert!(report.is_complete(), "{report}");
    assert!(report.stayed.count(Stays::Framework) > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_taken_back_resumes_it() {
    // Time enough for an upgrade and a death before the window is over.
    let (service, _reports) = start_with(DEADLINE * 20).await;
    let first = service.current();
    // So that its drain is not over at once.
    let mut busy = Client::of(&first).await;
    busy.get("/hang-body").await;
    held_as(&first.graceful(), Kind::Request, 1).await;
    let second = service.upgrade().await.unwrap();
    answered_by(&second, 1).await;
    second.kill();
    timeout(BOUND, first.serving()).await.unwrap();
    let answer = answered_by(&first, 0).await;
    assert!(!answer.contains("connection: close"), "{answer}");
    // And it can be drained all the same.
    drop(busy);
    first.graceful().drain();
    ended(&first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_with_the_last_connection_and_closes_the_ports() {
    let (service, reports) = start().await;
    let member = service.current();
    let graceful = member.graceful();
    let mut client = Client::of(&member).await;
    client.get("/poll").await;
    held_as(&graceful, Kind::Request, 1).await;
    let ports = ["web", "other"].map(|name| member.address(name).unwrap());
    graceful.drain();
    let answer = client.end().await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("come back\n"), "{answer}");
    ended(&member).await;
    let report = only(&reports);
    assert!(report.is_complete(), "{report}");
    assert!(report.took < WINDOW / 2, "{report}");
    for port in ports {
        let refused = TcpStream::connect(port.to_string()).await.is_err();
        assert!(refused, "{port}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_kept_for_the_window_and_closed_at_its_end() {
    let (service, reports) = start().await;
    let member = service.current();
    let mut client = Client::of(&member).await;
    client.get("/").await;
    client.until(")\n").await;
    member.graceful().drain();
    assert_eq!(client.end().await, "");
    ended(&member).await;
    let report = only(&reports);
    assert!(report.is_complete(), "{report}");
    assert!(report.took >= WINDOW && report.took < DEADLINE, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_at_the_end_of_the_window_may_finish_the_head() {
    let (service, reports) = start_with(DEADLINE * 4).await;
    let window = WINDOW * 4;
    let member = service.current();
    let mut idle = Client::of(&member).await;
    idle.get("/").await;
    idle.until(")\n").await;
    let address = member.address("web").unwrap().as_socket_addr().unwrap();
    let began = Instant::now();
    member.graceful().drain();
    let at = |time: Duration| tokio::time::sleep_until((began + time).into());
    at(window - DEADLINE / 4).await;
    let mut client = Client::to(address).await;
    let head = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    client.stream.write_all(&head[..9]).await.unwrap();
    at(window + DEADLINE / 10).await;
    client.stream.write_all(&head[9..]).await.unwrap();
    let answer = client.end().await;
    assert!(answer.contains("connection: close\r\n"), "{answer:?}");
    assert!(answer.ends_with(")\n"), "{answer:?}");
    assert_eq!(idle.end().await, "");
    ended(&member).await;
    let report = only(&reports);
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_cut_handlers_are_answered_for_and_bodies_broken_off() {
    let (service, reports) = start().await;
    let member = service.current();
    let mut handler = Client::of(&member).await;
    handler.get("/hold").await;
    let mut body = Client::of(&member).await;
    body.get("/hang-body").await;
    body.until("\r\n\r\n").await;
    held_as(&member.graceful(), Kind::Request, 2).await;
    member.graceful().drain();
    let answer = handler.end().await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(body.end().await, "", "it must not look complete");
    ended(&member).await;
    let report = only(&reports);
    assert_eq!((report.cut.len(), report.abandoned), (2, 0), "{report}");
    assert!(report.took >= DEADLINE, "{report}");
    assert!(report.took < DEADLINE + LATE, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_left_http_is_named_and_may_say_goodbye_at_the_cut() {
    let (service, reports) = start().await;
    let member = service.current();
    let mut client = Client::of(&member).await;
    let head = "GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
    client.stream.write_all(head.as_bytes()).await.unwrap();
    let answer = client.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    held_as(&member.graceful(), Kind::Upgraded, 1).await;
    member.graceful().drain();
    let last = client.end().await;
    assert!(last.contains("goodbye"), "{last:?}");
    ended(&member).await;
    let report = only(&reports).to_string();
    assert!(report.contains("cut 1: upgraded connection"), "{report}");
}

/// actix would wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_holds_its_thread_does_not_hold_the_drain() {
    let (service, reports) = start().await;
    let member = service.current();
    let mut client = Client::of(&member).await;
    client.get("/block").await;
    held_as(&member.graceful(), Kind::Request, 1).await;
    let began = Instant::now();
    member.graceful().drain();
    ended(&member).await;
    assert!(began.elapsed() < DEADLINE + LATE, "{:?}", began.elapsed());
    let report = only(&reports);
    assert_eq!(report.cut.len(), 1, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_answers_and_are_announced_on() {
    let (service, _reports) = start().await;
    let member = service.current();
    let mut client = Client::of(&member).await;
    client.get("/fails").await;
    let answer = client.until("short and stout").await;
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    member.graceful().drain();
    client.get("/fails").await;
    let answer = client.end().await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

/// A middleware that cannot be made.
struct Broken;

impl<S> Transform<S, ServiceRequest> for Broken
where
    S: actix_web::dev::Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
{
    type Response = ServiceResponse;
    type Error = Error;
    type Transform = S;
    type InitError = ();
    type Future = Ready<std::result::Result<S, ()>>;

    fn new_transform(&self, _: S) -> Self::Future {
        ready(Err(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_it_is_ready_is_over_at_once() {
    let reports = Reports::default();
    let given = reports.clone();
    let started = Service::start(move |builder: GenerationBuilder| {
        let reports = given.clone();
        async move {
            let generation = builder.start()?;
            let graceful = generation.graceful();
            let server = foreign::serve(App::new)
                .listen(generation.listen("127.0.0.1:0").await?)
                .with_graceful(graceful.clone());
            let server = server.start().await?;
            graceful.drain();
            let report = server.await?;
            reports.lock().unwrap().push(report);
            Ok(())
        }
    });
    timeout(BOUND, started).await.unwrap().unwrap_err();
    let report = only(&reports);
    assert!(report.is_complete(), "{report}");
}

async fn broken(builder: GenerationBuilder) -> Result<()> {
    let generation = builder.start()?;
    let listener = generation.listen("127.0.0.1:0").await?;
    let server = foreign::serve(|| App::new().wrap(Broken)).listen(listener);
    let starting = server.workers(2).start();
    let _running = starting.await?;
    generation.ready().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_cannot_be_made_is_an_error_before_it_is_ready() {
    let started = timeout(BOUND, Service::start(broken)).await.unwrap();
    let error = started.expect_err("it has no application").to_string();
    assert!(error.contains("the application cannot be made"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_listener_there_is_no_server() {
    let error = foreign::serve(App::new).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// A generation of this process, in a system of actix's: its settings, hooks and arbiters; and it
/// accepts once it is ready, over a Unix socket as well.
#[test]
fn in_a_system_it_accepts_once_ready_and_its_workers_are_arbiters() {
    async fn who() -> String {
        let arbiter = actix_rt::Arbiter::try_current().is_some();
        format!("{} {arbiter}.", rt::System::try_current().is_some())
    }
    rt::System::new().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.socket");
        let generation = Generation::start().unwrap();
        let graceful = generation.graceful();
        let connected = Arc::new(AtomicUsize::new(0));
        let counts = connected.clone();
        let (web, unix) = ("127.0.0.1:0", format!("unix:{}", path.display()));
        let web = generation.listen(web).await.unwrap();
        let address = web.local_addr().unwrap().as_socket_addr().unwrap();
        let apps = Arc::new(Mutex::new(Vec::new()));
        let made = apps.clone();
        let server = foreign::serve(move || {
            // Lives as long as its worker's application.
            let mine = Arc::new(());
            made.lock().unwrap().push(Arc::downgrade(&mine));
            App::new().app_data(mine).route("/", web::get().to(who))
        });
        let server = server
            .workers(2)
            .listen(web)
            .listen(generation.listen(unix).await.unwrap())
            .with_graceful(graceful.clone())
            .on_connect(move |_, _| {
                counts.fetch_add(1, SeqCst);
            })
            .http(|http| http.client_request_timeout(Duration::from_secs(2)));
        let server = rt::spawn(server.start().await.unwrap());
        let mut early = Client::to(address).await;
        early.get("/").await;
        let waiting = timeout(Duration::from_millis(200), early.until("true true."));
        assert!(waiting.await.is_err(), "it is not ready");
        assert_eq!(connected.load(SeqCst), 0);
        generation.ready().await.unwrap();
        early.until("true true.").await;
        let mut unix = UnixStream::connect(&path).await.unwrap();
        let head = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        unix.write_all(head).await.unwrap();
        let mut answer = String::new();
        let read = timeout(BOUND, unix.read_to_string(&mut answer)).await;
        read.unwrap().unwrap();
        assert!(answer.ends_with("true true."), "{answer}");
        let slow = Client::to(address).await.end().await;
        assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
        assert_eq!(connected.load(SeqCst), 3);
        drop(early);
        graceful.drain();
        let report = timeout(BOUND, server).await.unwrap().unwrap().unwrap();
        assert!(report.is_complete(), "{report}");
        assert!(TcpStream::connect(address).await.is_err());
        let apps = apps.lock().unwrap().clone();
        assert_eq!(apps.len(), 4, "one for each worker and listener");
        // Arbiters end by themselves.
        let gone = async {
            while apps.iter().any(|app| app.strong_count() > 0) {
                tokio::task::yield_now().await;
            }
        };
        timeout(BOUND, gone).await.expect("workers that end");
    });
}
