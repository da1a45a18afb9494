//! A session lives through upgrades, and its client notices nothing.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, ensure};
use handover_tests::harness::{Process, Program, Server, Signal};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{sleep, timeout},
};

const BOUND: Duration = Duration::from_secs(20);

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address).await?)))
    }

    async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.0.write_all(text.as_bytes()).await?)
    }

    async fn receive(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = timeout(BOUND, self.0.read_line(&mut line)).await;
        ensure!(
            read.context("no answer")?? > 0,
            "the connection was closed after {line:?}"
        );
        Ok(line.trim_end().to_owned())
    }

    async fn ask(&mut self, text: &str) -> anyhow::Result<String> {
        self.send(&format!("{text}\n")).await?;
        self.receive().await
    }
}

async fn start(directory: &Path) -> anyhow::Result<(Server, SocketAddr)> {
    let server = Program::new(env!("CARGO_BIN_EXE_line-protocol"))
        .arg("127.0.0.1:0")
        .directory(directory)
        .spawn()?;
    let address = server.logged("ready local=", "local", BOUND).await?;
    Ok((server, address))
}

#[tokio::test]
async fn a_session_lives_through_twenty_upgrades() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (server, address) = start(directory.path()).await?;
    let mut client = Client::connect(address).await?;
    assert_eq!(client.ask("name ann").await?, "ann 1 name ann");
    // Says nothing until the end, and has said half a line.
    let mut quiet = Client::connect(address).await?;
    assert_eq!(quiet.ask("name eve").await?, "eve 1 name eve");
    quiet.send("go").await?;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let talk = tokio::spawn(async move {
        let mut lines = 1;
        while stopped.try_recv().is_err() {
            lines += 1;
            let answer = client.ask("tick").await?;
            ensure!(answer == format!("ann {lines} tick"), "{lines}: {answer}");
            sleep(Duration::from_millis(3)).await;
        }
        anyhow::Ok((client, lines))
    });
    let mut process = Process::open(server.first().pid())?;
    for number in 1..=20 {
        let next = server.replace(&process, number, BOUND).await?;
        // It does not wait for its clients to go.
        assert!(process.exit(BOUND).await?.is_success());
        process = next;
    }
    let _ = stop.send(());
    let (mut client, lines) = talk.await??;
    assert!(lines > 20, "{lines} lines say little of 20 upgrades");
    assert_eq!(client.ask("end").await?, format!("ann {} end", lines + 1));
    quiet.send("od morning\n").await?;
    assert_eq!(quiet.receive().await?, "eve 2 good morning");
    // A stop is told.
    process.signal(Signal::TERM)?;
    assert_eq!(client.receive().await?, "goodbye");
    assert_eq!(quiet.receive().await?, "goodbye");
    assert!(process.exit(BOUND).await?.is_success());
    Ok(())
}

#[tokio::test]
async fn a_session_outlives_a_predecessor_that_is_killed() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (server, address) = start(directory.path()).await?;
    let mut client = Client::connect(address).await?;
    assert_eq!(client.ask("name ann").await?, "ann 1 name ann");
    let first = server.first();
    first.signal(Signal::HUP)?;
    let pid: u32 = server.logged("serving generation=1", "pid", BOUND).await?;
    // As soon as the successor has the session; the old process may still be there.
    server
        .stderr_line("a session begins name=\"ann\" lines=1", BOUND)
        .await?;
    let _ = first.signal(Signal::KILL);
    first.exit(BOUND).await?;
    assert_eq!(client.ask("hello").await?, "ann 2 hello");
    let second = Process::open(pid)?;
    assert!(second.is_running());
    second.signal(Signal::TERM)?;
    assert_eq!(client.receive().await?, "goodbye");
    assert!(second.exit(BOUND).await?.is_success());
    Ok(())
}
