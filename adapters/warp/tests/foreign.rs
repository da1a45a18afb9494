//! warp's own loop with our socket, signal and token.

#![cfg(unix)]

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use handover::{
    GenerationBuilder, Graceful, Phase, Report,
    testing::{Member, Service},
};
use handover_warp::foreign;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use warp::Filter;

const BOUND: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_millis(1000);
/// Of the deadline.
const WINDOW: Duration = Duration::from_millis(800);
/// A drain is over this long after its deadline, on a machine that has other things to do as well.
const LATE: Duration = Duration::from_millis(300);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Reports = Arc<Mutex<Vec<Report>>>;
/// What successors wait for before they are ready.
type Gate = Arc<Semaphore>;

/// Says its number, and has a route that never ends.
async fn program(builder: GenerationBuilder, reports: Reports, slow: Gate) -> Result<()> {
    let graceful = Graceful::builder()
        .deadline(DEADLINE)
        .upgrade_deadline(DEADLINE)
        .build();
    let generation = builder.graceful(graceful.clone()).start()?;
    let number = generation.number();
    let listener = generation.listen("web=127.0.0.1:0").await?;
    let hold = warp::path!("hold").then(std::future::pending::<&'static str>);
    let upgrade = warp::path!("upgrade").map(|| {
        let reply = warp::reply::with_header("", "upgrade", "chat");
        let reply = warp::reply::with_header(reply, "connection", "upgrade");
        warp::reply::with_status(reply, warp::http::StatusCode::SWITCHING_PROTOCOLS)
    });
    let app = warp::path::end()
        .map(move || format!("{number}\n"))
        .or(hold)
        .or(upgrade)
        .map(foreign::announcing(&graceful))
        .boxed();
    let (token, signal) = (graceful.clone(), foreign::signal(&graceful));
    let server: Pin<Box<dyn Future<Output = io::Result<()>> + Send>> = Box::pin(async move {
        let listener = foreign::tcp(listener).await?;
        let server = warp::serve(app).incoming(listener);
        server.graceful(signal).run().await;
        Ok(())
    });
    let server = tokio::spawn(async move { token.track("warp", server).await.transpose() });
    if number > 0 {
        slow.acquire().await?.forget();
    }
    generation.ready().await?;
    server.await??;
    let report = graceful.drained().await;
    reports.lock().unwrap().push(report);
    Ok(())
}

async fn start() -> (Service, Reports, Gate) {
    let (reports, gate) = (Reports::default(), Arc::new(Semaphore::new(0)));
    let given = (reports.clone(), gate.clone());
    let service = Service::start(move |builder| {
        let (reports, gate) = given.clone();
        program(builder, reports, gate)
    });
    (service.await.unwrap(), reports, gate)
}

async fn connect(member: &Member) -> TcpStream {
    let address = member.address("web").unwrap().as_socket_addr().unwrap();
    let connecting = timeout(BOUND, TcpStream::connect(address)).await;
    connecting.unwrap().unwrap()
}

async fn get(stream: &mut TcpStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// The answer to a request, whose body ends with a newline.
async fn ask(stream: &mut TcpStream) -> String {
    get(stream, "/").await;
    let mut answer = String::new();
    let reading = async {
        let mut bytes = [0; 1024];
        while !answer.ends_with("\n") || !answer.contains("\r\n\r\n") || answer.ends_with("\r\n") {
            let read = stream.read(&mut bytes).await.unwrap();
            assert!(read > 0, "an end after {answer:?}");
            answer += std::str::from_utf8(&bytes[..read]).unwrap();
        }
    };
    timeout(BOUND, reading).await.unwrap();
    answer
}

async fn end(mut stream: TcpStream) -> String {
    let mut rest = String::new();
    let read = timeout(BOUND, stream.read_to_string(&mut rest)).await;
    let _ = read.expect("it is closed");
    rest
}

async fn drained(member: &Member, reports: &Reports) -> Report {
    let outcome = timeout(BOUND, member.ended()).await.unwrap();
    assert!(outcome.is_success(), "{outcome}");
    reports.lock().unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_for_the_whole_window_and_closed_at_its_end() {
    let (service, reports, _gate) = start().await;
    let member = service.current();
    let mut used = connect(&member).await;
    let mut idle = connect(&member).await;
    let mut leaving = connect(&member).await;
    for stream in [&mut used, &mut idle, &mut leaving] {
        let answer = ask(stream).await;
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    member.graceful().drain();
    let answer = ask(&mut used).await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(end(used).await, "");
    // A client that leaves HTTP insists on this header.
    let head = "GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
    leaving.write_all(head.as_bytes()).await.unwrap();
    let answer = end(leaving).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("connection: upgrade\r\n"), "{answer}");
    assert_eq!(end(idle).await, "");
    let report = drained(&member, &reports).await;
    assert!(report.is_complete(), "{report}");
    assert!(report.took >= WINDOW && report.took < DEADLINE, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_is_cut_with_its_server() {
    let (service, reports, _gate) = start().await;
    let member = service.current();
    let mut held = connect(&member).await;
    get(&mut held, "/hold").await;
    // Read by the time that another one has been answered.
    ask(&mut connect(&member).await).await;
    member.graceful().drain();
    let report = drained(&member, &reports).await;
    assert!(report.to_string().contains("cut 1: task warp"), "{report}");
    assert!(report.took >= DEADLINE, "{report}");
    assert!(report.took < DEADLINE + LATE, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_accepts_from_the_commit_on_and_serves_on_if_the_successor_dies() {
    let (service, _reports, gate) = start().await;
    let (first, service) = (service.current(), Arc::new(service));
    let mut idle = connect(&first).await;
    ask(&mut idle).await;
    let upgrading = service.clone();
    let upgrade = tokio::spawn(async move { upgrading.upgrade().await });
    let starts = async {
        while service.members().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, starts).await.unwrap();
    for _ in 0..100 {
        let answer = ask(&mut connect(&first).await).await;
        assert!(answer.ends_with("\r\n0\n"), "{answer}");
    }
    gate.add_permits(1);
    let second = timeout(BOUND, upgrade).await.unwrap().unwrap().unwrap();
    assert_ne!(first.graceful().phase(), Phase::Running);
    // It has the socket, and takes its part of what comes.
    let by_the_second =
        async { while !ask(&mut connect(&second).await).await.ends_with("\r\n1\n") {} };
    timeout(BOUND, by_the_second).await.unwrap();
    second.kill();
    timeout(BOUND, first.serving()).await.unwrap();
    let answer = ask(&mut connect(&first).await).await;
    assert!(answer.ends_with("\r\n0\n"), "{answer}");
    assert!(!answer.contains("connection: close"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_of_another_kind_is_an_error() {
    let started = Service::start(async |builder: GenerationBuilder| {
        let generation = builder.start()?;
        let listener = generation.listen("127.0.0.1:0").await?;
        let unfit = tokio::spawn(foreign::unix(listener));
        generation.ready().await?;
        unfit.await??;
        Ok(())
    });
    let service = timeout(BOUND, started).await.unwrap().unwrap();
    let outcome = timeout(BOUND, service.current().ended()).await.unwrap();
    let text = outcome.to_string();
    assert!(text.contains("is no Unix listener: use `tcp`"), "{text}");
}
