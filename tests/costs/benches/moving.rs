//! What becomes of 1,000 and of 10,000 idle HTTP/1 connections in an upgrade: Handover moves them to
//! the successor; of a server with ecdysis they are closed, and their clients connect anew.
//!
//! Real processes. Both are timed from the signal until every client has had an answer of the
//! successor, and ours also until the last connection is the successor's and its predecessor is gone.

use std::{path::Path, time::Duration};

use anyhow::ensure;
use handover_costs::{
    table::{Table, median},
    upgraded::{now, open_many},
};
use handover_tests::{
    harness::{Program, Server, Signal},
    load::{Connection, Target, get_on},
};

const HANDOVER: &str = env!("CARGO_BIN_EXE_upgraded-handover");
const ECDYSIS: &str = env!("CARGO_BIN_EXE_upgraded-ecdysis");
const BOUND: Duration = Duration::from_secs(60);
const UPGRADES: usize = 5;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    open_many()?;
    for count in [1_000, 10_000] {
        let moved = upgrades_of(HANDOVER, count, true).await?;
        let closed = upgrades_of(ECDYSIS, count, false).await?;
        let mut table = Table::new(format!("{count} idle connections: all answered anew"), "ms");
        table.push("handover, moved", moved.answered);
        table.push("ecdysis, closed and opened again", closed.answered);
        table.publish()?;
        let mut table = Table::new(format!("{count} idle connections: moved"), "ms");
        table.push("successor ready to predecessor gone", moved.gone);
        table.push(
            "of which each, in microseconds",
            moved.gone * 1e3 / count as f64,
        );
        table.publish()?;
    }
    Ok(())
}

/// Medians, in milliseconds.
struct Took {
    /// From the signal until the successor has answered every client.
    answered: f64,
    /// From when it was ready until the predecessor had gone.
    gone: f64,
}

async fn upgrades_of(program: &str, count: usize, moves: bool) -> anyhow::Result<Took> {
    let directory = tempfile::tempdir()?;
    let server = Program::new(Path::new(program))
        .arg("1")
        .arg(directory.path().join("state"))
        .arg("at-once")
        .ready_within(BOUND)
        .start()
        .await?;
    let to = server.newest().first_target()?;
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(open(&to).await?);
    }
    let (mut answered, mut gone) = (Vec::new(), Vec::new());
    for _ in 0..UPGRADES {
        let took = upgrade(&server, &mut connections, moves).await?;
        answered.push(took.answered);
        gone.push(took.gone);
    }
    server.terminate(BOUND).await?;
    Ok(Took {
        answered: middle(answered),
        gone: middle(gone),
    })
}

async fn open(to: &Target) -> anyhow::Result<Connection> {
    let mut connection = Connection::open(to).await?;
    get_on(&mut connection, "/").await?;
    Ok(connection)
}

async fn upgrade(
    server: &Server,
    connections: &mut [Connection],
    moves: bool,
) -> anyhow::Result<Took> {
    let old = server.newest();
    let to = old.first_target()?;
    let signalled = now();
    old.process.signal(Signal::HUP)?;
    let new = server.ready(old.generation + 1, BOUND).await?;
    let ready = now();
    old.process.exit(BOUND).await?;
    let gone = now();
    for connection in connections {
        if !moves {
            *connection = Connection::open(&to).await?;
        }
        let answer = get_on(connection, "/").await?;
        ensure!(answer.head.pid == Some(new.pid()), "{:?}", answer.head);
    }
    let millis = |from: Duration| (now() - from).as_secs_f64() * 1e3;
    Ok(Took {
        answered: millis(signalled),
        gone: (gone - ready).as_secs_f64() * 1e3,
    })
}

fn middle(samples: Vec<f64>) -> f64 {
    median(samples).expect("something was measured")
}
