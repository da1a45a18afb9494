//! A rolling restart behind a balancer: of three instances, each across a network on which a round trip
//! takes ten milliseconds, one after another is stopped and started anew, under load.
//!
//! Nothing is handed over from process to process; what counts is that each instance leaves well. The
//! balancers retry nothing, nor do the clients. HAProxy asks each second whether an instance is ready;
//! of nginx the same is asked by a controller, as an ingress has one, which tells it by a reload.
//!
//! As they stand these are small checks. The figures of the book are of
//!
//! ```text
//! HANDOVER_RESTARTS=100 \
//!     cargo test -p handover-tests --test rolling -- --ignored --nocapture --test-threads 4
//! ```
#![cfg(target_os = "linux")]

mod support;

use std::{net::SocketAddr, panic::resume_unwind, sync::Arc, thread, time::Duration};

use handover_tests::{
    harness::{Exit, Program, Server, Signal, eventually},
    load::{Clients, Config, Kind, Report, Storm, get},
    network::DelayLine,
};
use tokio::{
    runtime,
    task::JoinHandle,
    time::{interval, timeout},
};

use self::support::{BOUND, balancer::Balancer};

const INSTANCES: u8 = 3;
const EACH_WAY: Duration = Duration::from_millis(5);
/// How often somebody asks whether an instance is ready.
const INTERVAL: Duration = Duration::from_secs(1);
/// Each instance has an address of its own, and so these ports.
const PORT: u16 = 8080;
const ADMIN: u16 = 9000;

/// How many restarts, of all instances together.
fn restarts() -> usize {
    let restarts = std::env::var("HANDOVER_RESTARTS").ok();
    restarts.and_then(|n| n.parse().ok()).unwrap_or(3)
}

/// What runs behind the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// By `Policy::kubernetes()`: ready is not it any more, and five seconds later it stops.
    Ours,
    /// By axum with its own graceful shutdown, which begins at once.
    Axum,
}

impl Served {
    fn program(self, address: SocketAddr) -> Program {
        let program = Program::new(env!("CARGO_BIN_EXE_ref-axum"));
        let program = program.args(["--workers", "1", "--listen", &address.to_string()]);
        match self {
            Served::Ours => {
                let admin = self.asked(address);
                program.args(["--lame-duck", "5", "--admin", &admin.to_string()])
            }
            Served::Axum => program.arg("--no-handover"),
        }
    }

    /// Who says whether it is ready, and by which path.
    fn asked(self, mut address: SocketAddr) -> SocketAddr {
        if self == Served::Ours {
            address.set_port(ADMIN);
        }
        address
    }

    fn path(self) -> &'static str {
        match self {
            Served::Ours => "/readyz",
            Served::Axum => "/",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    HaProxy,
    Nginx,
}

impl Behind {
    /// A balancer for these instances, and who tells it of them, if it does not ask itself.
    async fn start(
        self,
        served: Served,
        instances: Vec<SocketAddr>,
    ) -> (Arc<Balancer>, Option<JoinHandle<()>>) {
        match self {
            Behind::HaProxy => {
                let mut backend = format!(
                    "    option httpchk GET {}\n    http-check expect status 200\n",
                    served.path()
                );
                for address in instances {
                    let asked = served.asked(address).port();
                    backend += &format!(
                        "    server {} {address} check port {asked} inter {}s fall 1 rise 2\n",
                        address.ip(),
                        INTERVAL.as_secs()
                    );
                }
                (Arc::new(Balancer::haproxy(&backend).await), None)
            }
            Behind::Nginx => {
                let balancer = Arc::new(Balancer::nginx(&instances).await);
                let told = tokio::spawn(control(Arc::clone(&balancer), served, instances));
                (balancer, Some(told))
            }
        }
    }

    fn clients(self) -> Clients {
        let mut clients = Clients::none();
        (clients.fresh, clients.slow, clients.upload) = (4, 4, 1);
        if self == Behind::HaProxy {
            (clients.keepalive, clients.idle) = (8, 16);
        }
        // nginx itself breaks off kept connections of its clients when it is told something; what those
        // lose says nothing of the instances.
        clients
    }
}

/// Keeps nginx to those that are ready.
async fn control(nginx: Arc<Balancer>, served: Served, instances: Vec<SocketAddr>) {
    let mut known = instances.clone();
    let mut ticks = interval(INTERVAL);
    loop {
        ticks.tick().await;
        let mut ready = Vec::new();
        for instance in &instances {
            let asked = served.asked(*instance).into();
            let answer = timeout(INTERVAL, get(&asked, served.path())).await;
            if matches!(answer, Ok(Ok(answer)) if answer.head.status == 200) {
                ready.push(*instance);
            }
        }
        if ready != known {
            nginx.tell_nginx(&ready);
            known = ready;
        }
    }
}

fn roll(behind: Behind, served: Served) -> Report {
    // A thread of its own, since it does not come back to where it was.
    thread::spawn(move || {
        let line = DelayLine::lay_to(INSTANCES, EACH_WAY).unwrap();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(drive(behind, served, &line))
    })
    .join()
    .unwrap_or_else(|panic| resume_unwind(panic))
}

async fn drive(behind: Behind, served: Served, line: &DelayLine) -> Report {
    let ends = line.servers();
    let addresses: Vec<_> = ends
        .iter()
        .map(|end| SocketAddr::new(end.address(), PORT))
        .collect();
    // Nobody else gets a turn while this thread is there: nothing is awaited.
    let spawn = |at: usize| {
        ends[at].enter().unwrap();
        let server = served.program(addresses[at]).spawn().unwrap();
        line.client().enter().unwrap();
        server
    };
    let mut instances: Vec<Server> = (0..ends.len()).map(spawn).collect();
    for instance in &instances {
        instance.ready(0, BOUND).await.unwrap();
    }
    let (balancer, told) = behind.start(served, addresses.clone()).await;
    for instance in &instances {
        is_used(&balancer, instance).await;
    }

    let mut config = Config::new(balancer.at.clone()).with_clients(behind.clients());
    // What carries the packets has two processors, with all else.
    config.keepalive_pause = Duration::from_millis(20);
    config.fresh_pause = Duration::from_millis(20);
    config.timeout = BOUND;
    let storm = Storm::start(config);
    for restart in 0..restarts() {
        let at = restart % instances.len();
        let old = instances[at].first().clone();
        old.signal(Signal::TERM).unwrap();
        assert_eq!(old.exit(2 * BOUND).await.unwrap(), Exit::Status(0));
        instances[at] = spawn(at);
        instances[at].ready(0, BOUND).await.unwrap();
        // As in a cluster: the next goes when this one has come.
        is_used(&balancer, &instances[at]).await;
    }
    let report = storm.stop().await;
    if let Some(told) = told {
        assert!(!told.is_finished(), "the controller has failed");
        told.abort();
    }
    println!("{behind:?}, {served:?}, {} restarts: {report}", restarts());
    report
}

/// Waits until the balancer has an answer of it.
async fn is_used(balancer: &Balancer, instance: &Server) {
    let pid = instance.first().pid();
    eventually("the instance to be used", BOUND, async || {
        let answer = get(&balancer.at, "/").await.ok()?;
        (answer.head.pid == Some(pid)).then_some(())
    })
    .await
    .unwrap();
}

fn loses_nothing(behind: Behind) {
    let report = roll(behind, Served::Ours);
    assert_eq!(report.lost(), 0, "{report}");
    assert!(report.requests() > 500, "{report}");
    // Or else it was not across the line.
    let fresh = report.kind(Kind::Fresh).unwrap();
    assert!(fresh.p99 >= 2 * EACH_WAY, "{report}");
}

/// Or what is asked of ours would be nothing.
fn loses_something(behind: Behind) {
    let report = roll(behind, Served::Axum);
    assert_ne!(report.lost(), 0, "{report}");
}

#[test]
#[ignore = "needs haproxy, root, ip and /dev/net/tun; run by tests/all"]
fn ours_loses_nothing_behind_haproxy_across_a_delay_line() {
    loses_nothing(Behind::HaProxy);
}

#[test]
#[ignore = "needs nginx, root, ip and /dev/net/tun; run by tests/all"]
fn ours_loses_nothing_behind_nginx_across_a_delay_line() {
    loses_nothing(Behind::Nginx);
}

#[test]
#[ignore = "needs haproxy, root, ip and /dev/net/tun; run by tests/all"]
fn axum_alone_loses_requests_behind_haproxy_across_a_delay_line() {
    loses_something(Behind::HaProxy);
}

#[test]
#[ignore = "needs nginx, root, ip and /dev/net/tun; run by tests/all"]
fn axum_alone_loses_requests_behind_nginx_across_a_delay_line() {
    loses_something(Behind::Nginx);
}
