//! Handshakes that stall, fail, or meet a drain.

mod support;

use std::time::{Duration, Instant};

use handover::{Accept, Connection, Graceful, Kind};
use handover_tests::{flights::Flights, tls::Certificates};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use self::support::{BOUND, Server, VERSIONS, client_of, end, get, held_back, tls};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Clients that stop at each flight of each version, in the middle of it and after it; with how many
/// of them are in a handshake then.
async fn stalled(certificates: &Certificates, server: &Server) -> Vec<Flights> {
    let mut stalled = Vec::new();
    for version in VERSIONS {
        let client = client_of(certificates, version);
        for stall in Flights::STALLS {
            let flights = Flights::stalled(&client, server.addr, stall);
            stalled.push(timeout(BOUND, flights).await.unwrap().unwrap());
        }
    }
    server.until(Kind::Handshake, stalled.len()).await;
    stalled
}

#[tokio::test]
async fn a_handshake_that_stalls_at_any_flight_is_cut_at_the_deadline_and_named() {
    const DEADLINE: Duration = Duration::from_millis(800);
    let certificates = Certificates::new().unwrap();
    let graceful = Graceful::builder().deadline(DEADLINE).build();
    let server = Server::start(tls(&certificates).load().unwrap(), graceful).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    server.until(Kind::Fresh, 1).await;
    let mut stalled = stalled(&certificates, &server).await;

    let began = Instant::now();
    server.graceful.drain();
    let report = server.ended().await;
    let took = began.elapsed();

    assert!(took >= DEADLINE, "{took:?}");
    assert!(took < DEADLINE * 2, "{took:?}");
    // Nobody waits for the one that has said nothing.
    assert_eq!(report.cut.len(), stalled.len(), "{report}");
    for flights in &stalled {
        let peer = flights.peer().unwrap().to_string();
        let named = report
            .cut
            .iter()
            .find(|cut| cut.peer.as_ref() == Some(&peer));
        assert_eq!(named.unwrap().kind, Kind::Handshake);
        assert!(report.to_string().contains("TLS handshake 127.0.0.1:"));
    }
    assert_eq!(end(&mut silent).await.unwrap(), b"");
    for flights in &mut stalled {
        // An end, and no reset, whatever was sent before.
        end(flights.tcp()).await.unwrap();
    }
}

#[tokio::test]
async fn a_handshake_has_a_limit_of_its_own() {
    const LIMIT: Duration = Duration::from_millis(300);
    let certificates = Certificates::new().unwrap();
    let limited = tls(&certificates).handshake_timeout(LIMIT);
    let server = Server::start(limited.load().unwrap(), Graceful::new()).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    let client = certificates.client().unwrap();
    let mut flights = Flights::begin(&client, server.addr).await.unwrap();
    let began = Instant::now();
    // However its bytes trickle.
    for byte in flights.flight().unwrap() {
        if flights.tcp().write_all(&[byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(5)).await;
        if server.count(Kind::Handshake) == 0 && began.elapsed() > LIMIT {
            break;
        }
    }
    server.until(Kind::Handshake, 0).await;
    assert!(began.elapsed() >= LIMIT);
    assert_eq!(end(&mut silent).await.unwrap(), b"");
    server.graceful.drain();
    assert!(server.ended().await.is_complete());
}

#[tokio::test]
async fn stalled_handshakes_hold_up_nobody() {
    let certificates = Certificates::new().unwrap();
    let server = Server::start(tls(&certificates).load().unwrap(), Graceful::new()).await;
    let _stalled = stalled(&certificates, &server).await;
    for version in VERSIONS {
        let mut tls = client_of(&certificates, version)
            .connect(server.addr)
            .await
            .unwrap();
        let answer = get(&mut tls).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_handshake_costs_its_own_connection() {
    let certificates = Certificates::new().unwrap();
    let server = Server::start(tls(&certificates).load().unwrap(), Graceful::new()).await;
    let noise: Vec<u8> = (0..20_000_u32).map(|at| (at * at % 251) as u8).collect();
    let strangers: [&[u8]; 5] = [
        REQUEST,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &noise,
        // A record of the right form with nonsense in it; and one that never ends.
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x15\x03\x03\x00\x02\x02\x28",
    ];
    for sent in strangers {
        let mut tcp = TcpStream::connect(server.addr).await.unwrap();
        tcp.write_all(sent).await.unwrap();
        // With an alert that says why, unless what came was one.
        let got = end(&mut tcp).await.unwrap();
        let alerts = got.starts_with(&[0x15, 3]) && got.len() == 7;
        assert!(alerts || sent[0] == 0x15 && got.is_empty(), "{got:?}");
    }
    let mut tls = certificates
        .client()
        .unwrap()
        .connect(server.addr)
        .await
        .unwrap();
    get(&mut tls).await.unwrap();
    drop(tls);
    server.graceful.drain();
    assert!(server.ended().await.is_complete());
}

#[tokio::test]
async fn a_handshake_that_meets_a_drain_is_finished_and_its_request_served() {
    let certificates = Certificates::new().unwrap();
    // Long beside the pause below.
    let window = Duration::from_secs(3);
    let graceful = Graceful::builder().announce(window).build();
    let server = Server::start(tls(&certificates).load().unwrap(), graceful).await;
    let client = certificates.client().unwrap();
    let mut idle = client.connect(server.addr).await.unwrap();
    get(&mut idle).await.unwrap();
    let mut begun = Vec::new();
    for version in VERSIONS {
        let (io, go) = held_back(server.addr, 100).await;
        let client = client_of(&certificates, version);
        let connected = tokio::spawn(async move { client.connect_over(io).await });
        begun.push((go, connected));
    }
    server.until(Kind::Handshake, begun.len()).await;

    server.graceful.drain();
    // When those that are idle are closed, as they are at the end of the window.
    assert_eq!(end(&mut idle).await.unwrap(), b"");
    for (go, connected) in begun {
        go.send(()).unwrap();
        let mut tls = connected.await.unwrap().unwrap();
        // It has a window of its own.
        sleep(window / 10).await;
        let answer = get(&mut tls).await.unwrap();
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(end(&mut tls).await.unwrap(), b"", "with close_notify");
    }
    assert!(server.ended().await.is_complete());
}

#[tokio::test]
async fn a_client_of_http2_that_meets_a_drain_is_told_at_once() {
    let certificates = Certificates::new().unwrap();
    let graceful = Graceful::builder()
        .announce(BOUND * 2)
        .deadline(BOUND * 4)
        .build();
    let server = Server::start(tls(&certificates).load().unwrap(), graceful).await;
    let (io, go) = held_back(server.addr, 100).await;
    let client = certificates.client().unwrap().with_alpn(&["h2"]);
    let connected = tokio::spawn(async move { client.connect_over(io).await });
    server.until(Kind::Handshake, 1).await;
    server.graceful.drain();
    go.send(()).unwrap();
    let tls = connected.await.unwrap().unwrap();
    let (mut requests, connection) = h2::client::handshake(tls).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("https://localhost/").body(()).unwrap();
    let (answer, _) = requests.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    // It ends by GOAWAY; at the end of the window that would be too late for this.
    timeout(BOUND, connection).await.unwrap().unwrap().unwrap();
    let report = server.ended().await;
    assert!(report.is_complete(), "{report}");
    assert!(report.took < BOUND, "{report}");
}

#[tokio::test]
async fn a_close_is_said_also_on_idle_connections() {
    let certificates = Certificates::new().unwrap();
    let window = Duration::from_millis(100);
    let graceful = Graceful::builder().announce(window).build();
    let server = Server::start(tls(&certificates).load().unwrap(), graceful).await;
    let mut clients = Vec::new();
    for version in VERSIONS {
        let client = client_of(&certificates, version);
        clients.push(client.connect(server.addr).await.unwrap());
        let mut used = client.connect(server.addr).await.unwrap();
        get(&mut used).await.unwrap();
        clients.push(used);
    }
    server.graceful.drain();
    for mut client in clients {
        // rustls takes an end without close_notify for an error.
        assert_eq!(end(&mut client).await.unwrap(), b"");
    }
    assert!(server.ended().await.is_complete());
}

#[tokio::test]
async fn reader_and_writer_in_two_tasks_both_see_the_end_of_the_handshake() {
    let certificates = Certificates::new().unwrap();
    let tls = tls(&certificates).load().unwrap();
    let mut listener = tls.accept(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap().as_socket_addr().unwrap();
    let (io, go) = held_back(addr, 100).await;
    let client = certificates.client().unwrap();
    let connected = tokio::spawn(async move { client.connect_over(io).await });

    let accepted = std::future::poll_fn(|cx| listener.poll_accept(cx)).await;
    let (mut io, peer) = accepted.unwrap();
    let connection = Connection::new(peer);
    listener.introduce(&mut io, &connection);
    let (mut read, mut write) = tokio::io::split(io);
    let reader = tokio::spawn(async move {
        let mut bytes = [0; 4];
        read.read_exact(&mut bytes).await.map(|_| bytes)
    });
    while connection.kind() != Kind::Handshake {
        tokio::task::yield_now().await;
    }
    // The last to ask is the one whom the socket wakes.
    let writer = tokio::spawn(async move {
        write.write_all(b"pong").await?;
        write.flush().await
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    let mut tls = connected.await.unwrap().unwrap();
    tls.write_all(b"ping").await.unwrap();
    timeout(BOUND, writer).await.unwrap().unwrap().unwrap();
    let read = timeout(BOUND, reader).await.expect("it was woken");
    assert_eq!(&read.unwrap().unwrap(), b"ping");
}
