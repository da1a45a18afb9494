//! The program is replaced by `handover run`, under clients that try nothing twice.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use handover_tests::harness::{Process, Program, Signal, beside};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

const BOUND: Duration = Duration::from_secs(30);

/// Asks over a connection of its own; returns the process that has answered.
async fn ask(address: SocketAddr) -> anyhow::Result<u32> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"hello\n").await?;
    let mut answer = String::new();
    timeout(BOUND, stream.read_to_string(&mut answer)).await??;
    let (pid, said) = answer.split_once(' ').context("no answer")?;
    ensure!(said == "hello\n", "{answer:?}");
    Ok(pid.parse()?)
}

#[tokio::test]
async fn it_is_replaced_five_times_and_nobody_is_refused() -> anyhow::Result<()> {
    let own = env!("CARGO_BIN_EXE_supervised");
    let supervisor = beside(own, "handover-supervisor", "handover").await?;
    let supervisor = Program::new(supervisor)
        .args(["run", "--listen", "127.0.0.1:0", "--ready-after", "0.2"])
        .args(["--probation", "0.1", "--", own])
        .spawn()?;
    let held = supervisor.stderr_line("holds tcp ", BOUND).await?;
    let (_, address) = held.split_once("holds tcp ").context("no address")?;
    let address: SocketAddr = address.trim().parse()?;
    supervisor.stderr_line("serves", BOUND).await?;

    let (stop, stopped) = watch::channel(false);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stopped = stopped.clone();
            tokio::spawn(async move {
                let mut seen = HashSet::new();
                let mut answered = 0;
                while !*stopped.borrow() {
                    seen.insert(ask(address).await?);
                    answered += 1;
                }
                anyhow::Ok((seen, answered))
            })
        })
        .collect();
    for number in 1..=5 {
        let before = ask(address).await?;
        let old = Process::open(before)?;
        supervisor.first().signal(Signal::HUP)?;
        let starts = format!("starts, generation {number}");
        let line = supervisor.stderr_line(&starts, BOUND).await?;
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word != "process");
        let pid: u32 = words.nth(1).context("no process id")?.parse()?;
        supervisor
            .stderr_line(&format!("generation {number} serves"), BOUND)
            .await?;
        old.exit(BOUND).await?;
        ensure!(ask(address).await? == pid, "{before} still answers");
    }
    stop.send(true)?;
    for client in clients {
        let (seen, answered) = client.await??;
        ensure!(
            answered > 100 && seen.len() > 1,
            "{answered} answers, of {seen:?}"
        );
    }
    supervisor.first().signal(Signal::TERM)?;
    ensure!(supervisor.first().exit(BOUND).await?.is_success());
    Ok(())
}
