//! Servers that speak TLS, and are replaced: certificates, sessions, handshakes that stall.
//!
//! That nothing is lost is in `upgrade.rs`, `foreign_clients.rs` and `grpc_clients.rs`.

mod support;

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use handover_tests::{
    flights::Flights,
    harness::{Exit, Server, Signal},
    load::{Target, get},
    tls::{Certificates, Client},
};
use handover_tls::rustls::{
    HandshakeKind,
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use self::support::{BOUND, Draining, Way, has_read, in_time, over_tls};

/// Handshakes of which the rate is told.
const HANDSHAKES: usize = 40;

async fn start(way: Way, certificates: &Certificates, flags: &[&str]) -> (Server, SocketAddr) {
    let program = over_tls(way.program(), certificates).args(flags);
    let server = program.start().await.unwrap();
    let address = server.newest().tcp().unwrap();
    (server, address)
}

/// Replaces the server, and waits until its predecessor has gone.
async fn upgrade(server: &Server) {
    let old = server.newest();
    old.process.signal(Signal::HUP).unwrap();
    server.ready(old.generation + 1, BOUND).await.unwrap();
    assert_eq!(old.process.exit(BOUND).await.unwrap(), Exit::Status(0));
}

/// One handshake and one request, after which the client has its tickets.
async fn handshake(client: &Client, address: SocketAddr) -> (HandshakeKind, Vec<u8>) {
    let tls = client.connect(address).await.unwrap();
    let (_, session) = tls.get_ref();
    let shown = session.peer_certificates().map(|all| all[0].to_vec());
    let seen = (session.handshake_kind().unwrap(), shown.unwrap_or_default());
    let target = Target::Tls(address, client.clone());
    drop(tls);
    assert_eq!(get(&target, "/").await.unwrap().head.status, 200);
    seen
}

/// How many of these clients resume a session now.
async fn resumed(clients: &[Client], address: SocketAddr) -> usize {
    let mut resumed = 0;
    for client in clients {
        let (kind, _) = handshake(client, address).await;
        resumed += usize::from(kind == HandshakeKind::Resumed);
    }
    resumed
}

async fn sessions_are_resumed_after_an_upgrade_as_before_it(way: Way) {
    let certificates = Certificates::new().unwrap();
    let (server, address) = start(way, &certificates, &[]).await;
    let clients: Vec<_> = (0..HANDSHAKES)
        .map(|number| {
            let version = [&TLS12, &TLS13][number % 2];
            certificates.client_with(&[version], None).unwrap()
        })
        .collect();
    assert_eq!(resumed(&clients, address).await, 0);
    let within = resumed(&clients, address).await;
    upgrade(&server).await;
    let across = resumed(&clients, address).await;
    println!("resumed: {within} of {HANDSHAKES} within a generation, {across} across an upgrade");
    assert_eq!((within, across), (HANDSHAKES, HANDSHAKES));
    assert!(server.terminate(BOUND).await.unwrap().is_success());
}

async fn a_handshake_that_stalls_ends_with_the_drain_of_an_upgrade(way: Way) {
    const DEADLINE: Duration = Duration::from_secs(2);
    let certificates = Certificates::new().unwrap();
    let flags = ["--upgrade-deadline", "2", "--deadline", "2"];
    let (server, address) = start(way, &certificates, &flags).await;
    let mut hello = Vec::new();
    let mut session = certificates.client().unwrap().session().unwrap();
    session.write_tls(&mut hello).unwrap();
    let mut stalled = TcpStream::connect(address).await.unwrap();
    stalled.write_all(&hello[..hello.len() / 2]).await.unwrap();
    // Accepted after it, so that it is the old process that has it.
    handshake(&certificates.client().unwrap(), address).await;

    let old = server.newest();
    old.process.signal(Signal::HUP).unwrap();
    server.stderr_line("draining", BOUND).await.unwrap();
    let began = Instant::now();
    let exit = old.process.exit(BOUND).await.unwrap();
    let took = began.elapsed();
    let report = server.stderr_line("drained in", BOUND).await.unwrap();
    // What lies below a framework's own loop is closed by that, at the end of the window.
    if !way.is_foreign() {
        let peer = stalled.local_addr().unwrap();
        let named = format!("cut 1: TLS handshake {peer}, ");
        assert!(report.contains(&named), "{report}");
        assert_eq!(exit, Exit::Status(3));
    }
    assert!(
        took < DEADLINE + Duration::from_secs(1),
        "{took:?}: {report}"
    );
    handshake(&certificates.client().unwrap(), address).await;
}

/// In each version, in the middle of each flight of the client's and after it.
async fn handshakes_that_stall_anywhere_are_cut_at_the_deadline_and_named(way: Way) {
    const DEADLINE: Duration = Duration::from_millis(1500);
    let certificates = Certificates::new().unwrap();
    in_time(Duration::from_millis(100), async || {
        let (server, address) = start(way, &certificates, &["--deadline", "1.5"]).await;
        let SocketAddr::V4(listener) = address else {
            panic!("{address} is no IPv4 address")
        };
        let (mut stalled, mut names) = (Vec::new(), vec!["cut 6: ".to_owned()]);
        for version in [&TLS12, &TLS13] {
            let client = certificates.client_with(&[version], None).unwrap();
            for stall in Flights::STALLS {
                let flights = Flights::stalled(&client, address, stall);
                let flights = timeout(BOUND, flights).await.unwrap().unwrap();
                let peer = flights.peer().unwrap();
                has_read(listener, peer).await;
                names.push(format!("TLS handshake {peer}, "));
                stalled.push(flights);
            }
        }
        let drained = Draining::begin(server).await.end().await;
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        drained.cut_at(DEADLINE, &names)
    })
    .await;
}

async fn a_connection_that_stays_is_counted_as_tls(way: Way) {
    let certificates = Certificates::new().unwrap();
    let (server, address) = start(way, &certificates, &[]).await;
    let client = certificates.client().unwrap();
    let _idle = client.connect(address).await.unwrap();
    handshake(&client, address).await;
    upgrade(&server).await;
    let report = server.stderr_line("drained in", BOUND).await.unwrap();
    let why = if way.is_foreign() {
        "in the framework's loop"
    } else {
        "TLS"
    };
    assert!(report.contains(&format!("1 stayed: 1 {why}")), "{report}");
}

for_each_acceptor! {
    sessions_are_resumed_after_an_upgrade_as_before_it,
    a_handshake_that_stalls_ends_with_the_drain_of_an_upgrade,
    a_connection_that_stays_is_counted_as_tls,
}

/// What lies below a framework's own loop is closed by that, at the end of the window.
mod on_our_loops {
    use super::handshakes_that_stall_anywhere_are_cut_at_the_deadline_and_named;

    crate::for_server! { ref_axum Axum handshakes_that_stall_anywhere_are_cut_at_the_deadline_and_named }
    crate::for_server! { ref_warp Warp handshakes_that_stall_anywhere_are_cut_at_the_deadline_and_named }
    crate::for_server! { ref_actix_web ActixWeb handshakes_that_stall_anywhere_are_cut_at_the_deadline_and_named }
}

#[tokio::test]
async fn certificates_are_renewed_by_an_upgrade_and_by_a_signal() {
    let certificates = Certificates::new().unwrap();
    let (server, address) = start(Way::Axum, &certificates, &[]).await;
    let client = certificates.client().unwrap().without_sessions();
    let shown = async || handshake(&client, address).await.1;
    let first = shown().await;

    certificates.renew().unwrap();
    assert_eq!(shown().await, first);
    upgrade(&server).await;
    let second = shown().await;
    assert_ne!(second, first);

    certificates.renew().unwrap();
    let key = fs::read(certificates.key()).unwrap();
    fs::write(certificates.key(), b"half a k").unwrap();
    let newest = server.newest();
    newest.process.signal(Signal::WINCH).unwrap();
    let said = server
        .stderr_line("the old one still", BOUND)
        .await
        .unwrap();
    assert!(said.contains("key.pem"), "{said}");
    assert_eq!(shown().await, second);

    // No successor starts with it either, and this one serves on.
    newest.process.signal(Signal::HUP).unwrap();
    let said = server.stderr_line("upgrade failed", BOUND).await.unwrap();
    assert!(said.contains("key.pem"), "{said}");
    assert_eq!(shown().await, second);

    fs::write(certificates.key(), key).unwrap();
    newest.process.signal(Signal::WINCH).unwrap();
    server
        .stderr_line("certificate read anew", BOUND)
        .await
        .unwrap();
    assert_ne!(shown().await, second);
    assert!(server.terminate(BOUND).await.unwrap().is_success());
}
