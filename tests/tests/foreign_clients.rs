//! Clients in other languages, with the connection pools that people use, notice no upgrade.
//!
//! What they ask is in `clients/`; they retry nothing. Each is asked to tell when all its
//! connections have arrived at the new generation, so that every upgrade meets connections that are
//! kept open by the one before.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use handover_tests::harness::{Program, Server, Signal};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const UPGRADES: u64 = 5;
/// The longest pause of a client is 2 s, and it takes one to learn of the new generation.
const BOUND: Duration = Duration::from_secs(20);

const REF_AXUM: &str = env!("CARGO_BIN_EXE_ref-axum");
const REF_AXUM_FOREIGN: &str = env!("CARGO_BIN_EXE_ref-axum-foreign");

#[tokio::test]
#[ignore = "needs Python packages; run by tests/all"]
async fn python_clients_of_our_loop_lose_nothing() {
    over_upgrades(REF_AXUM, python()).await;
}

#[tokio::test]
#[ignore = "needs Python packages; run by tests/all"]
async fn python_clients_of_axums_loop_lose_nothing() {
    over_upgrades(REF_AXUM_FOREIGN, python()).await;
}

#[tokio::test]
#[ignore = "needs node; run by tests/all"]
async fn node_clients_of_our_loop_lose_nothing() {
    over_upgrades(REF_AXUM, node()).await;
}

#[tokio::test]
#[ignore = "needs node; run by tests/all"]
async fn node_clients_of_axums_loop_lose_nothing() {
    over_upgrades(REF_AXUM_FOREIGN, node()).await;
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Where `tests/all` puts what it installs.
fn tools() -> PathBuf {
    env::var_os("HANDOVER_TEST_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools"),
        PathBuf::from,
    )
}

fn python() -> Command {
    let python = tools().join("python/bin/python");
    assert!(
        python.exists(),
        "there is no {}: run tests/all once",
        python.display()
    );
    let mut command = Command::new(python);
    command.arg(scripts().join("keepalive.py"));
    command
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.arg(scripts().join("keepalive.mjs"));
    command
}

/// What a client says at its end.
#[derive(Debug, Deserialize)]
struct Outcome {
    requests: u64,
    /// How many answers told it to close.
    told: u64,
    failures: Vec<String>,
}

struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(mut command: Command, server: &Server) -> Self {
        let address = server.newest().tcp().unwrap();
        command
            .arg(format!("http://{address}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {:?}: {error}", command.as_std()),
        };
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self, what: &str) -> String {
        match timeout(BOUND, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(_) => panic!("the client has ended; waited for {what}"),
            Err(_) => panic!("waited {BOUND:?} for {what}"),
        }
    }

    /// Waits until all connections are answered by process `pid`.
    async fn arrived(&mut self, pid: u32) {
        let wanted = format!("all {pid}");
        while self.line(&wanted).await != wanted {}
    }

    async fn stop(mut self) -> Outcome {
        drop(self.child.stdin.take());
        let line = self.line("its outcome").await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }
}

async fn over_upgrades(program: &str, client: Command) {
    let program = Program::new(program).args(["--listen", "127.0.0.1:0"]);
    let server = program.start().await.unwrap();
    let mut client = Client::start(client, &server);
    client.arrived(server.newest().pid()).await;
    for generation in 1..=UPGRADES {
        let old = server.newest().process;
        old.signal(Signal::HUP).unwrap();
        let new = server.ready(generation, BOUND).await.unwrap();
        client.arrived(new.pid()).await;
        let exit = old.exit(BOUND).await.unwrap();
        assert!(exit.is_success(), "generation {}: {exit}", generation - 1);
    }
    let outcome = client.stop().await;
    eprintln!("{} requests, {} told", outcome.requests, outcome.told);
    assert_eq!(
        outcome.failures, [""; 0],
        "of {} requests",
        outcome.requests
    );
    assert!(outcome.requests > 100, "only {} requests", outcome.requests);
    assert!(server.terminate(BOUND).await.unwrap().is_success());
}
