//! gRPC callers over upgrades: tonic's own client, with our layer or without, and those of others.

use std::{collections::HashSet, env, time::Duration};

use handover_tests::{
    grpc::{Outcome, Pace, Tonic},
    harness::{Exit, Server, Signal},
    tls::Certificates,
};
use tokio::{
    process::Command,
    time::{sleep, timeout},
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use super::{BOUND, foreign::Client};

/// How many upgrades: a few, or as many as HANDOVER_TEST_UPGRADES says.
pub(crate) fn upgrades() -> u64 {
    let number = env::var("HANDOVER_TEST_UPGRADES");
    number.map_or(10, |number| number.parse().expect("a number of upgrades"))
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
        Self::Tonic(Tonic::start(&endpoint, with_layer, Pace::default()))
    }

    /// tonic's client with our layer, over TLS.
    pub(crate) fn tonic_over_tls(server: &Server, certificates: &Certificates) -> Self {
        let port = server.newest().tcp().unwrap().port();
        let authority = std::fs::read(certificates.authority()).unwrap();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        let endpoint = Channel::from_shared(format!("https://localhost:{port}")).unwrap();
        Self::Tonic(Tonic::start(
            &endpoint.tls_config(tls).unwrap(),
            true,
            Pace::default(),
        ))
    }

    async fn arrived(&mut self, pid: u32) {
        match self {
            Self::Tonic(tonic) => tonic.arrived(pid).await.unwrap(),
            Self::Others(client) => client.arrived(pid).await,
        }
    }

    async fn stop(self) -> Outcome {
        match self {
            Self::Tonic(tonic) => tonic.stop().await.unwrap(),
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
        while clients.len() < 6 * Pace::default().channels {
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

/// What is asked of callers.
pub(crate) trait Unnoticed {
    /// All calls were OK, and streams ended as they should, and were opened again.
    fn assert_unnoticed(&self);
}

impl Unnoticed for Outcome {
    fn assert_unnoticed(&self) {
        assert_eq!(self.failures, [""; 0], "of {} calls", self.calls);
        assert!(self.calls > 50 * upgrades(), "only {} calls", self.calls);
        assert!(self.resumed >= upgrades(), "only {}", self.resumed);
        // At most once more where connections are told late, and now and then twice where a client
        // has no time to read that it was told.
        let pace = Pace::default();
        let most = 2 * upgrades() * (pace.channels * pace.callers) as u64;
        let most = most + most / 10;
        assert!(self.resumed <= most, "{} of {most}", self.resumed);
    }
}
