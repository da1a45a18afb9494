//! Behind HAProxy itself, which says whom it connects for and keeps its connections.

mod support;

use std::time::Duration;

use handover_tests::{
    harness::{Exit, Signal},
    load::{Clients, Config, Connection, Io, Storm, get_on},
};

use self::support::{BOUND, Way, balancer::Balancer};

const UPGRADES: u64 = 10;

/// Asks who the server takes this client for.
async fn is_known(connection: &mut Connection) {
    let Io::Tcp(io) = connection.get_ref() else {
        panic!("it connects over TCP");
    };
    let own = io.local_addr().unwrap();
    let answer = get_on(connection, "/peer").await.unwrap();
    let text = answer.text();
    assert!(
        text.starts_with(&format!("client={own} socket=127.0.0.1:")),
        "{text}"
    );
    assert!(!text.contains(&format!("socket={own}")), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs haproxy; run by tests/all"]
async fn haproxy_notices_no_upgrade() {
    let program = Way::Axum.program();
    let program = program.args(["--proxy-protocol", "--probation", "0.1"]);
    let server = program.start().await.unwrap();
    let address = server.newest().tcp().unwrap();
    let line = format!("    server one {address} send-proxy-v2 check inter 200ms fall 1 rise 1\n");
    let balancer = Balancer::haproxy(&line).await;
    let mut known = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(&balancer.at).await.unwrap();
        is_known(&mut connection).await;
        known.push(connection);
    }
    let mut clients = Clients::none();
    (clients.keepalive, clients.idle, clients.fresh) = (8, 24, 2);
    let mut config = Config::new(balancer.at.clone()).with_clients(clients);
    config.fresh_pause = Duration::from_millis(10);
    config.timeout = BOUND;
    let storm = Storm::start(config);
    for generation in 1..=UPGRADES {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let old = server.newest().process;
        storm.mark(generation);
        old.signal(Signal::HUP).unwrap();
        server.ready(generation, BOUND).await.unwrap();
        assert_eq!(old.exit(BOUND).await.unwrap(), Exit::Status(0));
        for connection in &mut known {
            is_known(connection).await;
        }
    }
    let report = storm.stop().await;
    println!("{report}");
    assert_eq!(report.lost(), 0, "{report}");
    assert_eq!(report.restarts_taken() as u64, UPGRADES, "{report}");
    assert!(report.requests() > 500, "{report}");
    assert_eq!((report.told(), report.found_closed()), (0, 0), "{report}");
}
