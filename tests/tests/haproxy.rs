//! Behind HAProxy itself, which says whom it connects for and keeps its connections.

mod support;

use std::{fs, net::TcpListener, os::fd::OwnedFd, process::Stdio, time::Duration};

use handover_tests::{
    harness::{Exit, Signal, eventually},
    load::{Clients, Config, Connection, Io, Storm, Target, get, get_on},
};
use tokio::process::{Child, Command};

use self::support::{BOUND, Way, directory};

const UPGRADES: u64 = 10;

/// HAProxy on a port of its own, which retries nothing.
struct Balancer {
    at: Target,
    _child: Child,
    _directory: tempfile::TempDir,
}

impl Balancer {
    async fn start(server: std::net::SocketAddr) -> Self {
        let (directory, path) = directory();
        let config = format!(
            "global\n\
             \x20   maxconn 1000\n\
             defaults\n\
             \x20   mode http\n\
             \x20   timeout connect 10s\n\
             \x20   timeout client 60s\n\
             \x20   timeout server 60s\n\
             \x20   timeout http-request 60s\n\
             \x20   option http-keep-alive\n\
             \x20   retries 0\n\
             frontend clients\n\
             \x20   bind fd@0\n\
             \x20   default_backend servers\n\
             backend servers\n\
             \x20   http-reuse safe\n\
             \x20   server one {server} send-proxy-v2 check inter 200ms fall 1 rise 1\n"
        );
        fs::write(path("haproxy.cfg"), config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = Target::from(listener.local_addr().unwrap());
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(path("haproxy.cfg"))
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("haproxy: run tests/all once");
        let answers = eventually("haproxy to answer", BOUND, async || {
            let answer = get(&at, "/").await.ok()?;
            (answer.head.status == 200).then_some(())
        });
        answers.await.unwrap();
        Self {
            at,
            _child: child,
            _directory: directory,
        }
    }
}

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
    let balancer = Balancer::start(server.newest().tcp().unwrap()).await;
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
