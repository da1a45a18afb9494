//! Each datagram is answered, once, while the service is replaced.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use handover_tests::harness::{Process, Program, Server, Signal};
use tokio::{net::UdpSocket, sync::watch, time::timeout};

const BOUND: Duration = Duration::from_secs(20);

/// A client that sends nothing twice.
struct Client {
    socket: UdpSocket,
    sent: u64,
}

impl Client {
    async fn connect(server: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(server).await?;
        Ok(Self { socket, sent: 0 })
    }

    /// The generation that has answered.
    async fn ask(&mut self) -> anyhow::Result<u64> {
        self.sent += 1;
        let asked = format!("datagram {}", self.sent);
        self.socket.send(asked.as_bytes()).await?;
        let mut answer = [0; 100];
        let length = timeout(BOUND, self.socket.recv(&mut answer)).await;
        let length = length.with_context(|| format!("{asked} is not answered"))??;
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        let (generation, said) = answer.split_once(' ').context("no generation")?;
        ensure!(said == asked, "{asked} is answered by {answer}");
        Ok(generation.parse()?)
    }
}

async fn start() -> anyhow::Result<(Server, SocketAddr)> {
    let server = Program::new(env!("CARGO_BIN_EXE_udp"))
        .arg("127.0.0.1:0")
        .spawn()?;
    let address = server.logged("ready local=", "local", BOUND).await?;
    Ok((server, address))
}

#[tokio::test]
async fn no_datagram_is_lost_in_ten_upgrades() -> anyhow::Result<()> {
    let (server, address) = start().await?;
    let (stop, stopped) = watch::channel(false);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let stopped = stopped.clone();
            tokio::spawn(async move {
                let mut client = Client::connect(address).await?;
                let mut newest = 0;
                while !*stopped.borrow() {
                    newest = newest.max(client.ask().await?);
                }
                anyhow::Ok((client.sent, newest))
            })
        })
        .collect();
    let mut process = Process::open(server.first().pid())?;
    for number in 1..=10 {
        process.signal(Signal::HUP)?;
        let line = format!("serving generation={number}");
        let next = Process::open(server.logged(&line, "pid", BOUND).await?)?;
        ensure!(process.exit(BOUND).await?.is_success());
        process = next;
    }
    stop.send(true)?;
    for client in clients {
        let (sent, newest) = client.await??;
        ensure!(sent > 100, "{sent} datagrams say little of ten upgrades");
        ensure!(newest == 10, "the last answer was by generation {newest}");
    }
    process.signal(Signal::TERM)?;
    ensure!(process.exit(BOUND).await?.is_success());
    Ok(())
}

#[tokio::test]
async fn the_old_one_reads_again_when_the_new_one_dies() -> anyhow::Result<()> {
    let (server, address) = start().await?;
    let mut client = Client::connect(address).await?;
    ensure!(client.ask().await? == 0);
    server.first().signal(Signal::HUP)?;
    let second = server.logged("serving generation=1", "pid", BOUND).await?;
    server.stderr_line("draining reason=upgrade", BOUND).await?;
    Process::open(second)?.signal(Signal::KILL)?;
    server.stderr_line("serving again", BOUND).await?;
    ensure!(client.ask().await? == 0);
    server.first().signal(Signal::TERM)?;
    ensure!(server.first().exit(BOUND).await?.is_success());
    Ok(())
}
