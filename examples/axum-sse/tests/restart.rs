//! Clients that stay miss no tick when the clock is restarted.

use std::{cell::Cell, net::SocketAddr, time::Duration};

use anyhow::ensure;
use handover_tests::{
    harness::{Process, Program, Signal},
    load::{EventSource, Target},
};
use tokio::time::{sleep, timeout};

const BOUND: Duration = Duration::from_secs(20);

/// Follows the clock to its end, and sends a signal after some ticks.
async fn follow(
    source: &mut EventSource,
    address: SocketAddr,
    ticks: usize,
    act: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let seen = Cell::new(0);
    let target = Target::Tcp(address);
    let followed = source.follow(&target, "/events", |_| {
        seen.set(seen.get() + 1);
        if seen.get() == ticks {
            act().expect("a process that can be signalled");
        }
    });
    timeout(BOUND, followed).await??;
    ensure!(seen.get() >= ticks);
    Ok(())
}

#[tokio::test]
async fn no_tick_is_missed() -> anyhow::Result<()> {
    let server = Program::new(env!("CARGO_BIN_EXE_axum-sse"))
        .arg("127.0.0.1:0")
        .env("NO_COLOR", "1")
        .spawn()?;
    let address: SocketAddr = server.logged("listening addr=", "addr", BOUND).await?;
    let mut source = EventSource::default();
    let first = server.first();
    follow(&mut source, address, 3, || first.signal(Signal::HUP)).await?;
    let retry = source.retry;
    ensure!((1000..=2000).contains(&retry.as_millis()), "{retry:?}");
    sleep(retry).await;

    let second: u32 = server.logged("serving generation=1", "pid", BOUND).await?;
    let second = Process::open(second)?;
    // Those that were missed, and some more.
    follow(&mut source, address, 20, || second.signal(Signal::TERM)).await?;
    ensure!(first.exit(BOUND).await?.is_success());
    ensure!(second.exit(BOUND).await?.is_success());
    Ok(())
}
