//! What an order has started is finished, in an upgrade and at the end.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::ensure;
use handover_tests::{
    harness::{Process, Program, Signal},
    load::{Connection, Target, get},
};

const BOUND: Duration = Duration::from_secs(20);

/// Orders something, and is answered before the receipt is written.
async fn order(target: &Target, item: &str) -> anyhow::Result<()> {
    let length = item.len();
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{item}"
    );
    let mut connection = Connection::open(target).await?;
    connection.send(request.as_bytes()).await?;
    let mut id = Vec::new();
    let head = connection
        .receive(|bytes| id.extend_from_slice(bytes))
        .await?;
    ensure!(head.status == 200, "{head:?}");
    ensure!(String::from_utf8(id)?.parse::<u32>().is_ok());
    Ok(())
}

/// Whether SQLite's log of changes is beside the file, as it is while somebody has it open.
fn is_open(file: &Path) -> bool {
    file.with_extension("db-wal").exists()
}

#[tokio::test]
async fn requests_end_before_jobs_and_these_before_the_database() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("orders.db");
    let server = Program::new(env!("CARGO_BIN_EXE_axum-jobs"))
        .arg("127.0.0.1:0")
        .arg(&file)
        .spawn()?;
    let address: SocketAddr = server.logged("listening addr=", "addr", BOUND).await?;
    let target = Target::Tcp(address);
    server.stderr_line("serving generation=0", BOUND).await?;

    // Jobs that outlive an upgrade's request to go.
    for item in ["tea", "salt", "bread"] {
        order(&target, item).await?;
    }
    let orders = get(&target, "/orders").await?.text();
    ensure!(
        orders.contains("no receipt"),
        "all were written at once: {orders}"
    );
    server.first().signal(Signal::HUP)?;
    let second = server.logged("serving generation=1", "pid", BOUND).await?;
    // The jobs of the new generation are its own.
    order(&target, "milk").await?;
    ensure!(server.first().exit(BOUND).await?.is_success());
    let orders = get(&target, "/orders").await?.text();
    let by_the_first = "tea: by generation 0\nsalt: by generation 0\nbread: by generation 0\n";
    ensure!(orders.starts_with(by_the_first), "{orders}");
    ensure!(is_open(&file));

    // A stop, right after an order.
    let second = Process::open(second)?;
    order(&target, "rice").await?;
    second.signal(Signal::TERM)?;
    ensure!(second.exit(BOUND).await?.is_success());
    let log = server.stderr();
    let at = |text: &str| log.iter().rposition(|line| line.contains(text));
    let (begun, written) = (at("draining reason=SIGTERM"), at("a receipt is written"));
    let closed = at("the database is closed");
    ensure!(
        begun.is_some() && begun < written && written < closed,
        "{log:#?}"
    );
    ensure!(at("is not written").is_none(), "{log:#?}");
    ensure!(!is_open(&file), "nobody has closed the database");

    // What was written is there.
    let again = Program::new(env!("CARGO_BIN_EXE_axum-jobs"))
        .arg("127.0.0.1:0")
        .arg(&file)
        .spawn()?;
    let address: SocketAddr = again.logged("listening addr=", "addr", BOUND).await?;
    let orders = get(&Target::Tcp(address), "/orders").await?.text();
    let rest = "milk: by generation 1\nrice: by generation 1\n";
    ensure!(orders == format!("{by_the_first}{rest}"), "{orders}");
    Ok(())
}
