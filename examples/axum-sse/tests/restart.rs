//! Clients that stay miss no tick when the clock is restarted.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use handover_tests::{
    harness::{Process, Program, Signal},
    load::{Connection, Target},
};
use tokio::time::{sleep, timeout};

const BOUND: Duration = Duration::from_secs(20);

/// An `EventSource`: how far it has come, and when it is to come back.
#[derive(Default)]
struct Source {
    last: Option<u64>,
    retry: Duration,
    ticks: usize,
}

impl Source {
    /// Follows the clock to the end of the stream, and calls `seen` after each event.
    async fn follow(&mut self, target: &Target, seen: impl Fn(&Self)) -> anyhow::Result<()> {
        let mut connection = Connection::open(target).await?;
        let last = self.last.map(|id| format!("last-event-id: {id}\r\n"));
        let last = last.unwrap_or_default();
        let head = format!("GET /events HTTP/1.1\r\nhost: x\r\n{last}\r\n");
        connection.send(head.as_bytes()).await?;
        let mut text = String::new();
        let mut missed = None;
        let received = connection.receive(|bytes| {
            text.push_str(&String::from_utf8_lossy(bytes));
            while let Some((event, rest)) = text.split_once("\n\n") {
                for line in event.lines() {
                    let Some((field, value)) = line.split_once(':') else {
                        continue;
                    };
                    match (field, value.trim().parse()) {
                        ("id", Ok(id)) => {
                            if self.last.is_some_and(|last| last + 1 != id) {
                                missed = Some((self.last, id));
                            }
                            self.last = Some(id);
                            self.ticks += 1;
                        }
                        ("retry", Ok(time)) => self.retry = Duration::from_millis(time),
                        _ => {}
                    }
                }
                text = rest.to_owned();
                seen(self);
            }
        });
        let head = timeout(BOUND, received).await.context("no end")??;
        ensure!(head.status == 200, "{head:?}");
        ensure!(missed.is_none(), "{missed:?}");
        Ok(())
    }
}

#[tokio::test]
async fn no_tick_is_missed() -> anyhow::Result<()> {
    let server = Program::new(env!("CARGO_BIN_EXE_axum-sse"))
        .arg("127.0.0.1:0")
        .env("NO_COLOR", "1")
        .spawn()?;
    let address: SocketAddr = server.logged("listening addr=", "addr", BOUND).await?;
    let target = Target::Tcp(address);
    let mut source = Source::default();
    let first = server.first().clone();
    source
        .follow(&target, |seen| {
            if seen.ticks == 3 {
                let _ = first.signal(Signal::HUP);
            }
        })
        .await?;
    ensure!(
        (1000..=2000).contains(&source.retry.as_millis()),
        "{:?}",
        source.retry
    );
    sleep(source.retry).await;

    let second: u32 = server.logged("serving generation=1", "pid", BOUND).await?;
    let process = Process::open(second)?;
    let before = source.ticks;
    source
        .follow(&target, |seen| {
            // Those that were missed, and some more.
            if seen.ticks == before + 20 {
                let _ = process.signal(Signal::TERM);
            }
        })
        .await?;
    ensure!(source.ticks >= before + 20);
    ensure!(server.first().exit(BOUND).await?.is_success());
    ensure!(process.exit(BOUND).await?.is_success());
    Ok(())
}
