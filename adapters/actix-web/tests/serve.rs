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
