//! Behind a load balancer that speaks the PROXY protocol, over upgrades and drains.

mod support;

use std::time::Duration;

use handover_tests::{
    harness::{Exit, Program, Server, Signal},
    load::{Answer, Connection, get_on},
};

use self::support::{BOUND, Draining, Peer, Way};

const CLIENTS: u16 = 20;
const UPGRADES: u64 = 5;

fn program(way: Way) -> Program {
    way.program().arg("--proxy-protocol")
}

/// The address that the balancer gives a client.
fn client(number: u16) -> String {
    format!("203.0.113.{}:{}", number % 250 + 1, 40_000 + number)
}

/// The same as an answer of `/peer` has it. Under axum's own loop the routes are told of nobody.
fn told(way: Way, number: u16) -> String {
    match way.is_foreign() {
        true => "client=unknown".to_owned(),
        false => format!("client={}", client(number)),
    }
}

/// A header for this client: of version 1, or of version 2 with an id.
fn header(number: u16) -> Vec<u8> {
    let client = client(number);
    if number % 2 == 1 {
        let (ip, port) = client.split_once(':').unwrap();
        return format!("PROXY TCP4 {ip} 192.0.2.1 {port} 443\r\n").into_bytes();
    }
    let id = id(number);
    let length = 12 + 3 + id.len() as u16;
    let [net, port] = [number % 250 + 1, 40_000 + number];
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    bytes.extend(length.to_be_bytes());
    bytes.extend([203, 0, 113, net as u8, 192, 0, 2, 1]);
    bytes.extend(port.to_be_bytes());
    bytes.extend(443_u16.to_be_bytes());
    bytes.push(5);
    bytes.extend((id.len() as u16).to_be_bytes());
    bytes.extend(id.bytes());
    bytes
}

fn id(number: u16) -> String {
    match number % 2 {
        1 => String::new(),
        _ => format!("request-{number}"),
    }
}

/// A client behind a balancer, which keeps its connection.
struct Behind {
    way: Way,
    number: u16,
    connection: Connection,
    connects: usize,
}

impl Behind {
    async fn connect(way: Way, server: &Server, number: u16) -> Self {
        Self {
            way,
            number,
            connection: connect(server, number).await,
            connects: 1,
        }
    }

    /// Asks who it is; connects again only if it is told to.
    async fn ask(&mut self, server: &Server) -> Answer {
        let socket = self.balancer();
        let answer = get_on(&mut self.connection, "/peer").await.unwrap();
        // Under axum's own loop the routes are told of nobody.
        let (client, socket, id) = match self.way.is_foreign() {
            true => ("unknown".to_owned(), "unknown".to_owned(), String::new()),
            false => (client(self.number), socket, id(self.number)),
        };
        assert_eq!(
            answer.text(),
            format!("client={client} socket={socket} id={id}\n")
        );
        if answer.head.close {
            self.connection = connect(server, self.number).await;
            self.connects += 1;
        }
        answer
    }

    /// Its own end, which the server sees as the balancer.
    fn balancer(&self) -> String {
        match self.connection.get_ref() {
            handover_tests::load::Io::Tcp(io) => io.local_addr().unwrap().to_string(),
            _ => unreachable!("it connects over TCP"),
        }
    }
}

async fn connect(server: &Server, number: u16) -> Connection {
    let to = server.newest().first_target().unwrap();
    let mut connection = Connection::open(&to).await.unwrap();
    connection.send(&header(number)).await.unwrap();
    connection
}

async fn upgrade(server: &Server) {
    let old = server.newest();
    old.process.signal(Signal::HUP).unwrap();
    server.ready(old.generation + 1, BOUND).await.unwrap();
}

async fn clients_keep_their_addresses(way: Way) {
    // It moves what is idle at once.
    let server = program(way).args(["--probation", "0"]);
    let server = server.start().await.unwrap();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(Behind::connect(way, &server, number).await);
    }
    for generation in 0..=UPGRADES {
        for client in &mut clients {
            client.ask(&server).await;
        }
        if generation == UPGRADES {
            break;
        }
        let old = server.newest().process;
        upgrade(&server).await;
        // The idle ones move meanwhile, or are told by their next answer.
        if !way.is_foreign() {
            assert_eq!(old.exit(BOUND).await.unwrap(), Exit::Status(0));
        }
    }
    for client in &mut clients {
        let answer = client.ask(&server).await;
        match way.is_foreign() {
            true => assert!(client.connects > 1),
            false => {
                assert_eq!(answer.head.generation, Some(UPGRADES));
                assert_eq!(client.connects, 1);
            }
        }
    }
}

async fn what_has_no_header_is_closed_and_others_are_served(way: Way) {
    let server = program(way).start().await.unwrap();
    let mut silent = Peer::connect(&server).await;
    let mut without = Peer::connect(&server).await;
    without.get("/").await;
    let (answer, _) = without.end().await;
    assert_eq!(answer, "");
    Behind::connect(way, &server, 2).await.ask(&server).await;
    // Within its time, and without a word.
    assert_eq!(silent.end().await, (String::new(), true));
}

async fn half_a_header_is_read_on_in_a_drain(way: Way) {
    let server = program(way).start().await.unwrap();
    let mut half = Peer::connect(&server).await;
    let header = header(1);
    half.send(&header[..20]).await;
    half.taken().await;
    let draining = Draining::begin(server).await;
    half.send(&header[20..]).await;
    half.get("/peer").await;
    let (answer, clean) = half.end().await;
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.contains(&told(way, 1)), "{answer}");
    assert!(clean);
    let drained = draining.end().await;
    assert_eq!(drained.exit, Exit::Status(0), "{}", drained.report);
}

async fn half_a_header_is_named_at_the_cut(way: Way) {
    let server = program(way).args(["--deadline", "0.5"]);
    let server = server.start().await.unwrap();
    let mut half = Peer::connect(&server).await;
    half.send(&header(1)[..20]).await;
    half.taken().await;
    let mut held = Peer::connect(&server).await;
    held.send(header(3)).await;
    held.get("/hold").await;
    held.taken().await;
    let drained = Draining::begin(server).await.end().await;
    assert_eq!(drained.exit, Exit::Status(3), "{}", drained.report);
    assert!(drained.took < Duration::from_secs(10), "{:?}", drained.took);
    let named = format!("of the PROXY protocol {}", half.name());
    // axum's own loop has let go of its listener, and so of this, before the cut.
    let is_named = drained.report.contains(&named);
    assert_eq!(is_named, !way.is_foreign(), "{}", drained.report);
    // A request is listed by its client's address.
    assert!(drained.report.contains(&client(3)), "{}", drained.report);
    assert_eq!(half.end().await.0, "");
}

async fn half_a_header_outlives_an_upgrade(way: Way) {
    let server = program(way).start().await.unwrap();
    let mut half = Peer::connect(&server).await;
    let header = header(2);
    half.send(&header[..20]).await;
    half.taken().await;
    let old = server.newest().process;
    upgrade(&server).await;
    half.send(&header[20..]).await;
    half.get("/peer").await;
    let answer = half.until("id=").await;
    assert!(answer.contains(&told(way, 2)), "{answer}");
    if !way.is_foreign() {
        // It has moved since, or is told of nothing.
        assert!(!answer.contains("connection: close"), "{answer}");
        half.get("/peer").await;
        half.until(&client(2)).await;
    }
    drop(half);
    assert_eq!(old.exit(BOUND).await.unwrap(), Exit::Status(0));
}

for_each_acceptor!(
    clients_keep_their_addresses,
    what_has_no_header_is_closed_and_others_are_served,
    half_a_header_is_read_on_in_a_drain,
    half_a_header_is_named_at_the_cut,
    half_a_header_outlives_an_upgrade,
);
