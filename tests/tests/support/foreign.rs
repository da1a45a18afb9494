//! Clients in other languages: programs below `clients/`, which say what became of their requests.
//!
//! Each tells when all its connections have arrived at a process, so that every upgrade meets
//! connections that are kept open by the one before.

use std::{
    env,
    fmt::Display,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// The longest pause of a client is 2 s, and it takes one to learn of the new generation; clients that
/// stay are told of it over 10 s.
const BOUND: Duration = Duration::from_secs(40);

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where `tests/all` puts what it installs.
fn tools() -> PathBuf {
    let tools = env::var_os("HANDOVER_TEST_TOOLS");
    tools.map_or_else(|| here("../target/test-tools"), PathBuf::from)
}

/// The interpreter that has the packages of `clients/requirements.txt`.
pub(crate) fn interpreter() -> Command {
    let python = tools().join("python/bin/python");
    assert!(
        python.exists(),
        "there is no {}: run tests/all once",
        python.display()
    );
    Command::new(python)
}

pub(crate) fn python(script: &str) -> Command {
    let mut command = interpreter();
    command.arg(here("clients").join(script));
    command
}

pub(crate) fn node(script: &str) -> Command {
    let mut command = source("node", script);
    command.env("HANDOVER_TEST_TOOLS", tools());
    command
}

/// A program that is run from its source, by what its language has for that.
fn source(command: &str, script: &str) -> Command {
    let mut command = Command::new(command);
    command.arg(here("clients").join(script));
    command
}

pub(crate) fn go(script: &str) -> Command {
    let mut command = Command::new("go");
    command.arg("run").arg(here("clients").join(script));
    // What it compiles it keeps there, and it fetches no other Go.
    command.env("GOCACHE", tools().join("go"));
    command.env("GOTOOLCHAIN", "local");
    command
}

pub(crate) fn java(script: &str) -> Command {
    source("java", script)
}

pub(crate) fn ruby(script: &str) -> Command {
    source("ruby", script)
}

pub(crate) fn php(script: &str) -> Command {
    source("php", script)
}

/// A client at work.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    pub(crate) fn start(mut command: Command) -> Self {
        command
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

    /// Waits until all connections are answered by process `pid`; or, of those that count how often
    /// they were told to go, until all have been so often.
    pub(crate) async fn arrived(&mut self, pid: impl Display) {
        let wanted = format!("all {pid}");
        while self.line(&wanted).await != wanted {}
    }

    /// Tells it to do something, and returns what it says of that.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, what: &Value) -> T {
        let stdin = self.child.stdin.as_mut().expect("it has not been stopped");
        let asked = stdin.write_all(format!("{what}\n").as_bytes()).await;
        asked.expect("a client that listens");
        let line = self.line(&what.to_string()).await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Ends it, and returns what it says of its requests.
    pub(crate) async fn stop<T: DeserializeOwned>(mut self) -> T {
        drop(self.child.stdin.take());
        loop {
            let line = self.line("its outcome").await;
            if !line.starts_with("all ") {
                return serde_json::from_str(&line)
                    .unwrap_or_else(|error| panic!("{line:?}: {error}"));
            }
        }
    }
}
