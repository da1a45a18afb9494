//! The log is complete when the process has ended, the report of its drain included.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, ensure};
use handover_tests::{
    harness::{Exit, Process, Program, Server, Signal, eventually},
    load::{Target, get},
};

const BOUND: Duration = Duration::from_secs(20);

/// Waits for a line of the log with this text.
async fn line(log: &Path, text: &str) -> anyhow::Result<String> {
    eventually(text, BOUND, async || {
        let lines = fs::read_to_string(log).ok()?;
        let (lines, _) = lines.rsplit_once('\n')?;
        let found = lines.lines().find(|line| line.contains(text));
        found.map(str::to_owned)
    })
    .await
}

/// What a line says behind `key=`, the last of that name.
fn field<T: std::str::FromStr>(line: &str, key: &str) -> anyhow::Result<T> {
    let mut words = line.split_whitespace().rev();
    let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let value = value.and_then(|value| value.parse().ok());
    value.with_context(|| format!("no {key} in {line:?}"))
}

async fn start(log: &Path) -> anyhow::Result<(Server, Target)> {
    let server = Program::new(env!("CARGO_BIN_EXE_axum-telemetry"))
        .arg("127.0.0.1:0")
        .arg(log)
        .spawn()?;
    line(log, "serving generation=0").await?;
    let address: SocketAddr = field(&line(log, "listening addr=").await?, "addr")?;
    Ok((server, Target::Tcp(address)))
}

#[tokio::test]
async fn the_last_lines_are_the_end_of_the_drain() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("service.log");
    let (server, target) = start(&log).await?;
    let request = tokio::spawn(async move { get(&target, "/slow").await });
    line(&log, "a slow request").await?;
    server.first().signal(Signal::TERM)?;
    ensure!(server.first().exit(BOUND).await? == Exit::Status(0));
    ensure!(request.await??.body == b"done\n");

    let log = fs::read_to_string(&log)?;
    let lines: Vec<_> = log.lines().rev().take(3).collect();
    let [closed, report, phase] = lines[..] else {
        anyhow::bail!("{log}");
    };
    ensure!(log.ends_with('\n'), "half a line: {closed}");
    ensure!(
        phase.contains("draining{stage=\"requests\"}: handover::drain: close"),
        "{log}"
    );
    ensure!(
        report.contains(": drained in ") && report.contains("(SIGTERM)"),
        "{log}"
    );
    ensure!(
        closed.contains("outcome=\"complete\"}: handover::drain: close"),
        "{log}"
    );
    Ok(())
}

#[tokio::test]
async fn the_log_of_an_upgrade_says_how_long_each_step_took() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("service.log");
    let (server, _) = start(&log).await?;
    server.first().signal(Signal::HUP)?;
    let second: u32 = field(&line(&log, "serving generation=1").await?, "pid")?;
    let second = Process::open(second)?;
    ensure!(server.first().exit(BOUND).await? == Exit::Status(0));
    let text = fs::read_to_string(&log)?;
    let ends = |of: &str| {
        let mut lines = text.lines();
        lines.any(|line| line.contains(of) && line.contains(": close time.busy="))
    };
    for step in ["state", "spawn", "send", "start", "commit"] {
        ensure!(
            ends(&format!("}}:{step}: handover::upgrade: ")),
            "{step}: {text}"
        );
    }
    ensure!(ends("outcome=\"served\"}: handover::upgrade: "), "{text}");
    ensure!(ends("outcome=\"complete\"}: handover::drain: "), "{text}");
    ensure!(
        text.contains("drained in ") && text.contains("(upgrade to pid "),
        "{text}"
    );
    second.signal(Signal::TERM)?;
    ensure!(second.exit(BOUND).await? == Exit::Status(0));
    Ok(())
}
