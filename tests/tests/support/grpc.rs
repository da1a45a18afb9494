//! gRPC callers over upgrades: tonic's own client, with our layer or without, and those of others.

use std::{
    collections::HashSet,
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use handover_tests::{
    harness::{Exit, Server, Signal, eventually},
    reference::pb::{TicksRequest, UnaryRequest, echo_client::EchoClient},
    tls::Certificates,
};
use handover_tonic::client::RetryLayer;
use http::{Request, Response};
use serde::Deserialize;
use tokio::{
    process::Command,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{
    Code, Status,
    body::Body,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tower::{Layer, ServiceExt, util::BoxCloneService};

use super::{BOUND, foreign::Client};

/// Connections, and callers on each, of unary calls and of streams.
const CHANNELS: usize = 4;
const CALLERS: usize = 5;

/// How many upgrades: a few, or as many as HANDOVER_TEST_UPGRADES says.
pub(crate) fn upgrades() -> u64 {
    let number = env::var("HANDOVER_TEST_UPGRADES");
    number.map_or(10, |number| number.parse().expect("a number of upgrades"))
}

/// What became of all calls.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Outcome {
    /// Unary calls.
    pub(crate) calls: u64,
    /// Streams that were opened.
    pub(crate) streams: u64,
    /// Streams that ended because their server drained, and were opened again.
    pub(crate) resumed: u64,
    /// What was not OK.
    pub(crate) failures: Vec<String>,
}

/// Who calls over the upgrades.
pub(crate) enum Callers {
    Tonic(Tonic),
    Others(Box<Client>),
}

impl Callers {
    /// Programs in other languages. They are told the address and where the services are described.
    pub(crate) fn others(mut command: Command, server: &Server) -> Self {
        command.arg(server.newest().tcp().unwrap().to_string());
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/proto/echo.proto"));
        Self::Others(Box::new(Client::start(command)))
    }

    /// The same over TLS.
    pub(crate) fn others_over_tls(
        mut command: Command,
        server: &Server,
        certificates: &Certificates,
    ) -> Self {
        let port = server.newest().tcp().unwrap().port();
        command.arg(format!("localhost:{port}"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/proto/echo.proto"));
        command.arg(certificates.authority());
        Self::Others(Box::new(Client::start(command)))
    }

    /// tonic's client, with our layer or without.
    pub(crate) fn tonic(server: &Server, with_layer: bool) -> Self {
        let address = server.newest().tcp().unwrap();
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        Self::Tonic(Tonic::start(&endpoint, with_layer))
    }

    /// tonic's client with our layer, over TLS.
    pub(crate) fn tonic_over_tls(server: &Server, certificates: &Certificates) -> Self {
        let port = server.newest().tcp().unwrap().port();
        let authority = std::fs::read(certificates.authority()).unwrap();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        let endpoint = Channel::from_shared(format!("https://localhost:{port}")).unwrap();
        Self::Tonic(Tonic::start(&endpoint.tls_config(tls).unwrap(), true))
    }

    async fn arrived(&mut self, pid: u32) {
        match self {
            Self::Tonic(tonic) => tonic.arrived(pid).await,
            Self::Others(client) => client.arrived(pid).await,
        }
    }

    async fn stop(self) -> Outcome {
        match self {
            Self::Tonic(tonic) => tonic.stop().await,
            Self::Others(client) => client.stop().await,
        }
    }
}

/// Upgrades the server, each time that all callers have arrived, and returns what they say.
pub(crate) async fn over_upgrades(server: &Server, mut callers: Callers) -> Outcome {
    callers.arrived(server.newest().pid()).await;
    for _ in 0..upgrades() {
        let old = server.newest();
        old.process.signal(Signal::HUP).unwrap();
        let new = server.ready(old.generation + 1, BOUND).await.unwrap();
        callers.arrived(new.pid()).await;
        let exit = old.process.exit(BOUND).await.unwrap();
        assert_eq!(exit, Exit::Status(0), "generation {}", old.generation);
    }
    let outcome = callers.stop().await;
    eprintln!(
        "{} calls, {} streams, {} opened again, {} failures",
        outcome.calls,
        outcome.streams,
        outcome.resumed,
        outcome.failures.len()
    );
    outcome
}

/// Lets them call a server that renews its connections, until each has had a few, and returns what
/// they say.
#[cfg(target_os = "linux")]
pub(crate) async fn over_renewals(server: &Server, mut callers: Callers) -> Outcome {
    let port = server.newest().tcp().unwrap().port();
    callers.arrived(server.newest().pid()).await;
    let mut clients = HashSet::new();
    let renewed = async {
        while clients.len() < 6 * CHANNELS {
            clients.extend(clients_of(port));
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(3 * BOUND, renewed)
        .await
        .expect("connections get old");
    callers.stop().await
}

/// The ports of those who have a connection to this one.
#[cfg(target_os = "linux")]
fn clients_of(server: u16) -> Vec<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        (port(local) == Some(server) && state == "01").then(|| port(remote))?
    });
    lines.collect()
}

impl Outcome {
    /// All calls were OK, and streams ended as they should, and were opened again.
    pub(crate) fn assert_unnoticed(&self) {
        assert_eq!(self.failures, [""; 0], "of {} calls", self.calls);
        assert!(self.calls > 50 * upgrades(), "only {} calls", self.calls);
        assert!(self.resumed >= upgrades(), "only {}", self.resumed);
        // At most once more where connections are told late, and now and then twice where a client
        // has no time to read that it was told.
        let most = 2 * upgrades() * (CHANNELS * CALLERS) as u64;
        let most = most + most / 10;
        assert!(self.resumed <= most, "{} of {most}", self.resumed);
    }
}

/// Callers with tonic's client.
pub(crate) struct Tonic {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    /// Who answered each caller last.
    latest: Mutex<Vec<u32>>,
    outcome: Mutex<Outcome>,
}

type Service = BoxCloneService<Request<Body>, Response<Body>, Status>;

impl Tonic {
    fn start(endpoint: &Endpoint, with_layer: bool) -> Self {
        let shared = Arc::new(Shared {
            latest: Mutex::new(vec![0; 2 * CHANNELS * CALLERS]),
            ..Shared::default()
        });
        let mut callers = JoinSet::new();
        for _ in 0..CHANNELS {
            let channel = endpoint.connect_lazy();
            let service: Service = match with_layer {
                true => RetryLayer::new().layer(channel).boxed_clone(),
                false => channel
                    .map_err(|error| Status::from_error(error.into()))
                    .boxed_clone(),
            };
            let client = EchoClient::new(service);
            for _ in 0..CALLERS {
                let number = callers.len();
                callers.spawn(call(client.clone(), number, shared.clone()));
                callers.spawn(follow(client.clone(), number + 1, shared.clone()));
            }
        }
        Self { shared, callers }
    }

    async fn arrived(&self, pid: u32) {
        let arrived = eventually("all callers to arrive", BOUND, async || {
            let latest = self.shared.latest.lock().unwrap();
            latest.iter().all(|latest| *latest == pid).then_some(())
        });
        arrived.await.unwrap();
    }

    async fn stop(mut self) -> Outcome {
        self.shared.stopped.store(true, Relaxed);
        while let Some(caller) = timeout(BOUND, self.callers.join_next()).await.unwrap() {
            caller.unwrap();
        }
        self.shared.outcome.lock().unwrap().clone()
    }
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    fn answered(&self, number: usize, pid: u32) {
        self.latest.lock().unwrap()[number] = pid;
    }

    async fn failed(&self, what: &str, status: Status) {
        let failure = format!("{what}: {:?}: {}", status.code(), status.message());
        self.outcome.lock().unwrap().failures.push(failure);
        sleep(Duration::from_millis(10)).await;
    }
}

async fn call(mut client: EchoClient<Service>, number: usize, shared: Arc<Shared>) {
    while !shared.is_stopped() {
        shared.outcome.lock().unwrap().calls += 1;
        let request = UnaryRequest {
            message: number.to_string(),
            delay_ms: fastrand::choice([0, 0, 5, 20]).unwrap(),
        };
        match client.unary(request).await {
            Ok(reply) => shared.answered(number, reply.get_ref().pid),
            Err(status) => shared.failed("unary", status).await,
        }
        sleep(Duration::from_millis(fastrand::u64(0..20))).await;
    }
}

async fn follow(mut client: EchoClient<Service>, number: usize, shared: Arc<Shared>) {
    while !shared.is_stopped() {
        shared.outcome.lock().unwrap().streams += 1;
        let request = TicksRequest {
            count: fastrand::choice([0, 0, 40]).unwrap(),
            interval_ms: 10,
        };
        let mut ticks = match client.ticks(request).await {
            Ok(ticks) => ticks.into_inner(),
            Err(status) => {
                shared.failed("stream", status).await;
                continue;
            }
        };
        let mut seen = 0;
        let end = loop {
            match ticks.message().await {
                Ok(Some(tick)) if tick.index == seen => {
                    seen += 1;
                    shared.answered(number, tick.pid);
                    if shared.is_stopped() {
                        return;
                    }
                }
                Ok(Some(tick)) => break Status::data_loss(format!("{tick:?} for {seen}")),
                Ok(None) if seen == request.count => break Status::ok(""),
                Ok(None) => break Status::data_loss(format!("OK after {seen}")),
                Err(status) => break status,
            }
        };
        match (end.code(), end.message()) {
            (Code::Ok, _) => {}
            (Code::Unavailable, "server draining") => {
                shared.outcome.lock().unwrap().resumed += 1;
            }
            _ => shared.failed("stream", end).await,
        }
    }
}
