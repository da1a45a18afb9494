//! Applications under Handover's loop: what they see, and what a drain does with them.

use std::{future::Ready, io, net::SocketAddr, thread, time::Duration};

use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    error, rt, test as app,
    web::{self, Bytes},
};
use handover::{Graceful, Report, health::Health};
use handover_actix_web::Draining;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::timeout,
};

const BOUND: Duration = Duration::from_secs(10);

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// One request on a connection of its own, and all that comes back.
async fn ask(mut io: impl AsyncReadExt + AsyncWriteExt + Unpin, head: &str) -> String {
    let head = format!("{head}\r\nhost: handover.test\r\nconnection: close\r\n\r\n");
    io.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(BOUND, io.read_to_string(&mut answer)).await;
    read.expect("an end").unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    let io = TcpStream::connect(address).await.unwrap();
    ask(io, &format!("GET {path} HTTP/1.1")).await
}

async fn peer(request: HttpRequest) -> String {
    format!("{:?}", request.peer_addr())
}

#[tokio::test]
async fn several_listeners_are_served_and_drained_by_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.socket");
    let ((first, one), (second, two)) = (bind().await, bind().await);
    let graceful = Graceful::new();
    let server = handover_actix_web::serve(|| App::new().route("/", web::get().to(peer)))
        .workers(2)
        .with_graceful(graceful.clone())
        .listen(first)
        .listen(second)
        .listen(UnixListener::bind(&path).unwrap());
    let server = tokio::spawn(server.start().await.unwrap());
    for address in [one, two] {
        let io = TcpStream::connect(address).await.unwrap();
        let client = Some(io.local_addr().unwrap());
        let answer = ask(io, "GET / HTTP/1.1").await;
        assert!(answer.ends_with(&format!("\r\n\r\n{client:?}")), "{answer}");
    }
    let answer = ask(UnixStream::connect(&path).await.unwrap(), "GET / HTTP/1.1").await;
    assert!(answer.ends_with("\r\n\r\nNone"), "{answer}");
    graceful.drain();
    let report: Report = timeout(BOUND, server).await.unwrap().unwrap().unwrap();
    assert!(report.is_complete(), "{report}");
    for address in [one, two] {
        assert!(TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn a_long_poll_ends_when_the_server_drains() {
    async fn poll(draining: Draining) -> &'static str {
        draining.begun().await;
        "come back\n"
    }
    let (listener, address) = bind().await;
    let graceful = Graceful::new();
    let server = handover_actix_web::serve(|| App::new().route("/poll", web::get().to(poll)))
        .listen(listener)
        .workers(1)
        .with_graceful(graceful.clone());
    let server = tokio::spawn(server.start().await.unwrap());
    let asking = tokio::spawn(get(address, "/poll"));
    while graceful
        .holders()
        .iter()
        .all(|held| !held.kind.is_request())
    {
        tokio::task::yield_now().await;
    }
    graceful.drain();
    let answer = asking.await.unwrap();
    assert!(answer.ends_with("come back\n"), "{answer}");
    let report = timeout(BOUND, server).await.unwrap().unwrap().unwrap();
    assert!(report.is_complete(), "{report}");
}

#[tokio::test]
async fn answers_are_what_the_application_made_of_them() {
    async fn fails() -> Result<HttpResponse, Error> {
        Err(error::ErrorImATeapot("short and stout"))
    }
    async fn echo(body: Bytes) -> Bytes {
        body
    }
    async fn last() -> HttpResponse {
        HttpResponse::Accepted().force_close().finish()
    }
    let (listener, address) = bind().await;
    let app = || {
        App::new()
            .route("/fails", web::get().to(fails))
            .route("/echo", web::post().to(echo))
            .route("/last", web::get().to(last))
    };
    let server = handover_actix_web::serve(app).listen(listener).workers(1);
    tokio::spawn(server.start().await.unwrap());
    let answer = get(address, "/fails").await;
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    assert!(answer.ends_with("short and stout"), "{answer}");
    assert!(get(address, "/none").await.starts_with("HTTP/1.1 404 "));
    let mut io = TcpStream::connect(address).await.unwrap();
    let post = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
    io.write_all(post.as_bytes()).await.unwrap();
    // On the same connection, and it is the server that ends it.
    io.write_all(b"GET /last HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answers = String::new();
    let read = timeout(BOUND, io.read_to_string(&mut answers)).await;
    read.expect("an end").unwrap();
    assert!(answers.contains("content-length: 5\r\n"), "{answers}");
    assert!(answers.contains("\r\n\r\nhelloHTTP/1.1 202 "), "{answers}");
    assert!(answers.contains("connection: close\r\n"), "{answers}");
}

/// As Java's client offers it with each request, until it is taken up.
#[tokio::test]
async fn who_offers_a_newer_http_is_served_by_this_one() {
    async fn length(body: Bytes) -> String {
        format!("{} bytes", body.len())
    }
    let (listener, address) = bind().await;
    let app = || App::new().default_service(web::to(length));
    let server = handover_actix_web::serve(app).listen(listener).workers(1);
    tokio::spawn(server.start().await.unwrap());
    let mut io = TcpStream::connect(address).await.unwrap();
    let offer = "host: x\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n";
    let asks = "connection: Upgrade, HTTP2-Settings\r\n";
    let post = format!("POST / HTTP/1.1\r\n{offer}{asks}content-length: 5\r\n\r\nhello");
    let get = format!("GET / HTTP/1.1\r\n{offer}{asks}\r\n");
    let last = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    io.write_all(format!("{post}{get}{last}").as_bytes())
        .await
        .unwrap();
    let mut answers = String::new();
    let read = timeout(BOUND, io.read_to_string(&mut answers)).await;
    read.expect("an end").unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{answers}");
    assert_eq!(answers.matches("\r\n\r\n5 bytes").count(), 1, "{answers}");
    assert_eq!(answers.matches("\r\n\r\n0 bytes").count(), 2, "{answers}");
}

/// A middleware that cannot be made.
struct Broken;

impl<S> Transform<S, ServiceRequest> for Broken
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
{
    type Response = ServiceResponse;
    type Error = Error;
    type Transform = S;
    type InitError = ();
    type Future = Ready<Result<S, ()>>;

    fn new_transform(&self, _: S) -> Self::Future {
        std::future::ready(Err(()))
    }
}

#[tokio::test]
async fn an_application_that_cannot_be_made_is_an_error_before_anything_is_accepted() {
    let (listener, _) = bind().await;
    let server = handover_actix_web::serve(|| App::new().wrap(Broken)).listen(listener);
    let error = timeout(BOUND, server.workers(2).start()).await.unwrap();
    let error = error.expect_err("it has no application").to_string();
    assert!(error.contains("the application cannot be made"), "{error}");
}

/// Reads up to the end.
async fn ends(mut io: TcpStream) {
    let mut rest = Vec::new();
    let read = io.read_to_end(&mut rest);
    timeout(BOUND, read).await.expect("an end").unwrap();
}

async fn idle(address: SocketAddr) -> TcpStream {
    let mut io = TcpStream::connect(address).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let read = timeout(BOUND, io.read_buf(&mut answer)).await;
        assert_ne!(read.expect("an answer").unwrap(), 0);
    }
    io
}

#[tokio::test]
async fn settings_are_those_of_the_connections() {
    const SHORT: Duration = Duration::from_millis(200);
    let app = || App::new().route("/", web::get().to(async || "hello"));
    let (listener, address) = bind().await;
    let server = handover_actix_web::serve(app).listen(listener).workers(1);
    tokio::spawn(server.keep_alive(SHORT).into_future());
    ends(idle(address).await).await;

    let (listener, address) = bind().await;
    let server = handover_actix_web::serve(app).listen(listener).workers(1);
    tokio::spawn(server.client_request_timeout(SHORT).into_future());
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET / HT").await.unwrap();
    ends(half).await;

    let (listener, address) = bind().await;
    let server = handover_actix_web::serve(app).listen(listener).workers(1);
    tokio::spawn(server.max_connection_age(SHORT).into_future());
    let mut aged = idle(address).await;
    let told = async {
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains("connection: close") {
            tokio::time::sleep(SHORT / 4).await;
            let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
            // It may have been closed for being idle just then.
            if aged.write_all(request).await.is_err() {
                return;
            }
            if !matches!(aged.read_buf(&mut answer).await, Ok(1..)) {
                return;
            }
        }
    };
    timeout(BOUND, told).await.expect("it is told to go");

    let (listener, address) = bind().await;
    let server = handover_actix_web::serve(app).listen(listener).workers(2);
    tokio::spawn(server.max_connections(1).into_future());
    let first = idle(address).await;
    let mut second = tokio::spawn(idle(address));
    let waits = timeout(SHORT, &mut second).await;
    assert!(waits.is_err(), "it has to wait for a place");
    drop(first);
    timeout(BOUND, second).await.unwrap().unwrap();
}

#[tokio::test]
async fn there_are_as_many_workers_as_were_asked_for_and_they_end() {
    use std::sync::{Arc, Weak};
    let (listener, _) = bind().await;
    let graceful = Graceful::new();
    let apps = Arc::new(std::sync::Mutex::new(Vec::<Weak<()>>::new()));
    let made = apps.clone();
    let server = handover_actix_web::serve(move || {
        // Lives as long as its worker's application.
        let mine = Arc::new(());
        made.lock().unwrap().push(Arc::downgrade(&mine));
        App::new().app_data(mine)
    });
    let server = server.workers(3).with_graceful(graceful.clone());
    let server = server.listen(listener).start().await.unwrap();
    let apps = apps.lock().unwrap().clone();
    assert_eq!(apps.len(), 3);
    assert!(apps.iter().all(|app| app.strong_count() > 0));
    graceful.drain();
    timeout(BOUND, server).await.unwrap().unwrap();
    assert!(apps.iter().all(|app| app.strong_count() == 0));
}

/// A drain that begins between the start of a server and its first poll waits for what is queued.
#[tokio::test]
async fn what_is_queued_before_it_is_awaited_is_served() {
    let (listener, address) = bind().await;
    let graceful = Graceful::new();
    let app = || App::new().route("/", web::get().to(async || "hello"));
    let server = handover_actix_web::serve(app).listen(listener).workers(1);
    let server = server
        .with_graceful(graceful.clone())
        .start()
        .await
        .unwrap();
    let mut io = TcpStream::connect(address).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    graceful.drain();
    let server = tokio::spawn(server);
    let mut answer = String::new();
    let read = timeout(BOUND, io.read_to_string(&mut answer)).await;
    read.expect("an end").unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    let report = timeout(BOUND, server).await.unwrap().unwrap().unwrap();
    assert!(report.is_complete(), "{report}");
}

#[tokio::test]
async fn without_a_listener_there_is_no_server() {
    let error = handover_actix_web::serve(App::new).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// Handlers may ask for their system and their arbiter, where there is one.
#[test]
fn in_a_system_the_workers_are_its_arbiters() {
    async fn who() -> String {
        let here = thread::current().id();
        let system = rt::System::try_current().is_some();
        let arbiter = actix_rt::Arbiter::try_current().is_some();
        // Of the worker, and not `Send`.
        let there = rt::spawn(async { thread::current().id() }).await;
        format!("{system} {arbiter} {}", there.ok() == Some(here))
    }
    rt::System::new().block_on(async {
        let (listener, address) = bind().await;
        let graceful = Graceful::new();
        let server = handover_actix_web::serve(|| App::new().route("/", web::get().to(who)))
            .workers(2)
            .listen(listener)
            .with_graceful(graceful.clone());
        let server = rt::spawn(server.start().await.unwrap());
        let answer = get(address, "/").await;
        assert!(answer.ends_with("true true true"), "{answer}");
        graceful.drain();
        let report = timeout(BOUND, server).await.unwrap().unwrap().unwrap();
        assert!(report.is_complete(), "{report}");
    });
}

#[actix_web::test]
async fn probes_are_answered_in_a_drain() {
    let graceful = Graceful::new();
    let _work = graceful.guard();
    let health = handover_actix_web::health(&Health::new(graceful.clone()));
    let service = app::init_service(App::new().configure(health)).await;
    for (drains, readyz) in [(false, 200), (true, 503)] {
        if drains {
            graceful.drain();
        }
        for (path, expected) in [("/livez", 200), ("/readyz", readyz), ("/", 404)] {
            let request = app::TestRequest::get().uri(path).to_request();
            let answer = app::call_service(&service, request).await;
            assert_eq!(answer.status(), expected, "{path} {drains}");
        }
    }
}
