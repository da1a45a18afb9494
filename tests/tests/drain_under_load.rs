//! A drain loses nothing under load, and the same load shows what the bare frameworks lose.
//!
//! All generations are tasks of this process here, on one listening socket: what is seen is the
//! serve loop's own drain, without any hand-over between processes.

use std::{io, net::TcpListener, time::Duration};

use handover::{Graceful, Reason, Report as Drained};
use handover_tests::{
    load::{Clients, Config, Report, Storm},
    reference::{Info, app, bare, filter, router},
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

const GENERATIONS: u64 = 5;
const BETWEEN: Duration = Duration::from_millis(600);
const DRAINED_WITHIN: Duration = Duration::from_secs(20);

/// One generation, and how to end it.
struct Running {
    server: JoinHandle<()>,
    end: Box<dyn FnOnce() + Send>,
}

/// Runs a storm while generation after generation takes over, as soon as `start` returns it.
async fn replaced_under_load(start: impl Fn(tokio::net::TcpListener, Info) -> Running) -> Report {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = || tokio::net::TcpListener::from_std(socket.try_clone().unwrap()).unwrap();
    let mut config = Config::new(socket.local_addr().unwrap());
    config.clients = Clients::persistent(32);
    config.rtt = Duration::from_millis(10);
    config.slow = Duration::from_millis(700);
    config.stream = Duration::from_secs(1);
    config.upload = Duration::from_millis(500);
    let mut newest = start(listener(), Info::new(0));
    let mut drains = Vec::new();
    let storm = Storm::start(config);
    for generation in 1..=GENERATIONS {
        sleep(BETWEEN).await;
        let mark = storm.mark(generation);
        let old = std::mem::replace(&mut newest, start(listener(), Info::new(generation)));
        (old.end)();
        drains.push((mark, old.server));
    }
    for (mark, drain) in drains {
        timeout(DRAINED_WITHIN, drain)
            .await
            .expect("a drain that ends")
            .unwrap();
        storm.gone(mark);
    }
    let report = storm.stop().await;
    (newest.end)();
    timeout(DRAINED_WITHIN, newest.server)
        .await
        .expect("a drain that ends")
        .unwrap();
    report
}

/// A server on Handover's loop; the listening socket lives on, as it does in a successor.
fn ours<S>(graceful: Graceful, server: S) -> Running
where
    S: IntoFuture<Output = io::Result<Drained>, IntoFuture: Send + 'static>,
{
    let server = server.into_future();
    Running {
        server: tokio::spawn(async move {
            let report = server.await.unwrap();
            assert!(report.is_complete(), "{report}");
        }),
        end: Box::new(move || {
            graceful.drain_for(Reason::Upgrade {
                successor: std::process::id(),
            });
        }),
    }
}

/// A framework's own server with its own graceful shutdown.
fn theirs<F>(serve: impl FnOnce(oneshot::Receiver<()>) -> F) -> Running
where
    F: Future<Output = ()> + Send + 'static,
{
    let (end, ended) = oneshot::channel::<()>();
    Running {
        server: tokio::spawn(serve(ended)),
        end: Box::new(move || {
            let _ = end.send(());
        }),
    }
}

async fn told(ended: oneshot::Receiver<()>) {
    let _ = ended.await;
}

async fn loses_no_request_of_any_kind(start: impl Fn(tokio::net::TcpListener, Info) -> Running) {
    let report = replaced_under_load(start).await;
    assert_eq!(report.lost(), 0, "{report}");
    assert_eq!(report.restarts_taken() as u64, GENERATIONS, "{report}");
    // Clients were told, and did not have to find out.
    assert!(report.told() > 0, "{report}");
    assert_eq!(report.found_closed(), 0, "{report}");
}

/// The control: a storm in which a bare framework loses nothing could not tell either way.
async fn loses_requests(start: impl Fn(tokio::net::TcpListener, Info) -> Running) {
    let report = replaced_under_load(start).await;
    assert_eq!(report.restarts_taken() as u64, GENERATIONS, "{report}");
    assert!(report.lost() >= GENERATIONS, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_of_axum_loses_nothing() {
    loses_no_request_of_any_kind(|listener, info| {
        let graceful = Graceful::new();
        let server = handover_axum::serve(listener, router(info));
        ours(graceful.clone(), server.with_graceful(graceful))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_load_shows_what_plain_axum_loses() {
    loses_requests(|listener, info| {
        theirs(async move |ended| {
            let server = axum::serve(listener, router(info));
            server.with_graceful_shutdown(told(ended)).await.unwrap();
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_of_warp_loses_nothing() {
    loses_no_request_of_any_kind(|listener, info| {
        let graceful = Graceful::new();
        let server = handover_warp::serve(filter(info)).incoming(listener);
        ours(graceful.clone(), server.with_graceful(graceful))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_load_shows_what_plain_warp_loses() {
    loses_requests(|listener, info| {
        theirs(async move |ended| {
            let server = warp::serve(filter(info)).incoming(listener);
            server.graceful(told(ended)).run().await;
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_of_actix_web_loses_nothing() {
    loses_no_request_of_any_kind(|listener, info| {
        let graceful = Graceful::new();
        let server = handover_actix_web::serve(move || app(info)).workers(1);
        let server = server.listen(listener).with_graceful(graceful.clone());
        ours(graceful, server)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_load_shows_what_plain_actix_web_loses() {
    loses_requests(|listener, info| {
        theirs(async move |ended| {
            let listener = listener.into_std().unwrap();
            let server = bare::actix_server(listener, info, Some(1)).unwrap();
            let handle = server.handle();
            let stop = async {
                told(ended).await;
                handle.stop(true).await;
            };
            let ((), ended) = tokio::join!(stop, server);
            ended.unwrap();
        })
    })
    .await;
}
