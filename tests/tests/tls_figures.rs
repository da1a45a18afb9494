//! What handshakes cost a server when its clients come back after an upgrade: where the successor can open
//! the session tickets that they have, and where it cannot.
//!
//! As it stands this is a small check. The figures of the book are of
//!
//! ```text
//! HANDOVER_HANDSHAKES=500 cargo test --release -p handover-tests --test tls_figures -- --nocapture
//! ```

mod support;

use std::{fs, net::SocketAddr, time::Duration};

use handover_tests::{
    harness::{Exit, Server, Signal},
    tls::{Certificates, Client},
};
use handover_tls::rustls::{
    HandshakeKind, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use self::support::{BOUND, Way, over_tls};

/// Connections before anything is counted.
const WARM_UP: usize = 20;

/// How many clients come back, and whether the figures are held to what is promised.
fn handshakes() -> (usize, bool) {
    let count = std::env::var("HANDOVER_HANDSHAKES").ok();
    match count.and_then(|n| n.parse().ok()) {
        Some(count) => (count, !cfg!(debug_assertions)),
        None => (50, false),
    }
}

/// A server, and what connections to its newest process have cost that.
struct Counted {
    server: Server,
    address: SocketAddr,
    before: Duration,
    resumed: usize,
}

impl Counted {
    async fn start(certificates: Option<&Certificates>, flags: &[&str]) -> Self {
        let program = Way::Axum.program().args(flags);
        let program = match certificates {
            Some(certificates) => over_tls(program, certificates),
            None => program,
        };
        let server = program.start().await.unwrap();
        let address = server.newest().tcp().unwrap();
        Self {
            server,
            address,
            before: Duration::ZERO,
            resumed: 0,
        }
    }

    async fn upgrade(&self) {
        let old = self.server.newest();
        old.process.signal(Signal::HUP).unwrap();
        self.server.ready(old.generation + 1, BOUND).await.unwrap();
        assert_eq!(old.process.exit(BOUND).await.unwrap(), Exit::Status(0));
    }

    fn count_from_here(&mut self) {
        self.before = processor_time(self.server.newest().pid());
        self.resumed = 0;
    }

    /// For each of so many connections.
    fn cost(&self, connections: usize) -> Duration {
        let now = processor_time(self.server.newest().pid());
        (now - self.before) / connections as u32
    }

    async fn visit(&mut self, client: Option<&Client>) {
        let Some(client) = client else {
            return request(TcpStream::connect(self.address).await.unwrap()).await;
        };
        let tls = client.connect(self.address).await.unwrap();
        let kind = tls.get_ref().1.handshake_kind();
        self.resumed += usize::from(kind == Some(HandshakeKind::Resumed));
        request(tls).await;
    }
}

/// What its threads have had of the processors.
fn processor_time(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    Duration::from_nanos(threads.map(|thread| of(thread.unwrap())).sum())
}

/// One request, and the end of the connection. The tickets have come by then.
async fn request(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let head = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    io.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Fails if sessions are not resumed just where the keys were handed over; and, where figures are asked
/// for, if that costs no less.
async fn reconnects_cost(name: &str, version: &'static SupportedProtocolVersion) {
    let (count, strictly) = handshakes();
    let certificates = Certificates::new().unwrap();
    let mut plain = Counted::start(None, &[]).await;
    let mut shared = Counted::start(Some(&certificates), &[]).await;
    let mut own = Counted::start(Some(&certificates), &["--own-ticket-keys"]).await;
    let clients = || -> Vec<Client> {
        let client = || certificates.client_with(&[version], None).unwrap();
        (0..count).map(|_| client()).collect()
    };
    let (sharing, owning) = (clients(), clients());
    for (one, other) in sharing.iter().zip(&owning) {
        shared.visit(Some(one)).await;
        own.visit(Some(other)).await;
    }
    assert_eq!((shared.resumed, own.resumed), (0, 0));
    for server in [&plain, &shared, &own] {
        server.upgrade().await;
    }
    let stranger = certificates.client_with(&[version], None).unwrap();
    let stranger = stranger.without_sessions();
    for _ in 0..WARM_UP {
        plain.visit(None).await;
        shared.visit(Some(&stranger)).await;
        own.visit(Some(&stranger)).await;
    }
    for server in [&mut plain, &mut shared, &mut own] {
        server.count_from_here();
    }
    // By turns, so that whatever else goes on here slows each of them.
    for (one, other) in sharing.iter().zip(&owning) {
        plain.visit(None).await;
        shared.visit(Some(one)).await;
        own.visit(Some(other)).await;
    }
    assert_eq!((shared.resumed, own.resumed), (count, 0));
    let [without, resumed, full] = [&plain, &shared, &own].map(|server| server.cost(count));
    let handshake = |all: Duration| all.saturating_sub(without);
    let ratio = handshake(full).as_secs_f64() / handshake(resumed).as_secs_f64();
    let us = |time: Duration| time.as_nanos() as f64 / 1000.0;
    println!(
        "{name}, {count} clients come back, processor time of the server for each, in µs: {:.0} without \
         TLS; {:.0} with shared keys, {:.0} with keys of its own; the handshake alone {:.0} and {:.0}: \
         {ratio:.2} times as much",
        us(without),
        us(resumed),
        us(full),
        us(handshake(resumed)),
        us(handshake(full)),
    );
    if strictly {
        assert!(resumed < full, "{resumed:?}, {full:?}");
    }
}

/// One after the other: each wants the machine for itself.
#[tokio::test]
async fn handshakes_after_an_upgrade_cost_less_with_shared_ticket_keys() {
    reconnects_cost("TLS 1.3", &TLS13).await;
    reconnects_cost("TLS 1.2", &TLS12).await;
}
