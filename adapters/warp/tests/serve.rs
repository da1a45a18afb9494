//! Filters under Handover's loop: what they see, and what a drain does with them.

use std::{net::SocketAddr, time::Duration};

use handover::{Address, Graceful, Report, health::Health};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinHandle,
    time::timeout,
};
use warp::{Filter, Reply};

const BOUND: Duration = Duration::from_secs(10);

async fn start<F>(filter: F) -> (SocketAddr, Graceful, JoinHandle<std::io::Result<Report>>)
where
    F: Filter<Extract: Reply> + Clone + Send + Sync + 'static,
{
    let graceful = Graceful::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = handover_warp::serve(filter)
        .incoming(listener)
        .with_graceful(graceful.clone());
    (address, graceful, tokio::spawn(server.into_future()))
}

/// One request on a connection of its own, and all that comes back.
async fn ask(mut io: impl AsyncReadExt + AsyncWriteExt + Unpin) -> String {
    let head = "GET / HTTP/1.1\r\nhost: handover.test\r\nconnection: close\r\n\r\n";
    io.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(BOUND, io.read_to_string(&mut answer)).await;
    read.expect("an end").unwrap();
    answer
}

#[tokio::test]
async fn the_clients_address_is_a_filter() {
    let route = handover_warp::remote().map(|client: Option<SocketAddr>| format!("{client:?}"));
    let (address, ..) = start(route).await;
    let io = TcpStream::connect(address).await.unwrap();
    let client = Some(io.local_addr().unwrap());
    let answer = ask(io).await;
    assert!(answer.ends_with(&format!("\r\n\r\n{client:?}")), "{answer}");
}

/// So that nobody takes ours for superfluous, and so that we hear of it should it change.
#[tokio::test]
async fn warps_own_filter_for_it_finds_nothing() {
    let route = warp::addr::remote().map(|client: Option<SocketAddr>| format!("{client:?}"));
    let (address, ..) = start(route).await;
    let answer = ask(TcpStream::connect(address).await.unwrap()).await;
    assert!(answer.ends_with("None"), "{answer}");
}

#[tokio::test]
async fn over_a_unix_socket_there_is_a_peer_and_no_socket_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.socket");
    let route = handover_warp::remote()
        .and(handover_warp::peer())
        .map(|client: Option<SocketAddr>, peer: Option<Address>| format!("{client:?} {peer:?}"));
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(handover_warp::serve(route).incoming(listener).into_future());
    let answer = ask(UnixStream::connect(&path).await.unwrap()).await;
    assert!(answer.ends_with("None Some(Unix(None))"), "{answer}");
}

#[tokio::test]
async fn a_long_poll_ends_when_the_server_drains() {
    let route = handover_warp::graceful().then(async |graceful: Graceful| {
        graceful.draining().await;
        "come back\n"
    });
    let (address, graceful, server) = start(route).await;
    let io = TcpStream::connect(address).await.unwrap();
    let asking = tokio::spawn(ask(io));
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
async fn an_address_that_is_taken_is_an_error_and_no_panic() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let bound = handover_warp::serve(warp::any().map(|| "hello"))
        .bind(address)
        .await;
    assert_eq!(bound.err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn probes_are_answered_in_a_drain() {
    let graceful = Graceful::new();
    let _work = graceful.guard();
    let routes = handover_warp::health(&Health::new(graceful.clone()));
    for (drains, readyz) in [(false, 200), (true, 503)] {
        if drains {
            graceful.drain();
        }
        for (path, expected) in [("/livez", 200), ("/readyz", readyz), ("/", 404)] {
            let answer = warp::test::request().path(path).reply(&routes).await;
            assert_eq!(answer.status(), expected, "{path} {drains}");
        }
    }
}
