//! The configuration is read anew by a new process, or not at all.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::ensure;
use handover_tests::{
    harness::{Process, Program, Signal, eventually},
    load::{Connection, Target, get, get_on},
};
use tokio::time::sleep;

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_good_one_is_taken_and_a_bad_one_changes_nothing() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("config.json");
    let write = |listen: &str, greeting: &str| {
        let config = format!(r#"{{"listen": [{listen}], "greeting": "{greeting}"}}"#);
        fs::write(&file, config)
    };
    write(r#""web=127.0.0.1:0""#, "hello")?;
    let server = Program::new(env!("CARGO_BIN_EXE_config-reload"))
        .arg(&file)
        .spawn()?;
    let web: SocketAddr = server.logged("address=\"web=", "local", BOUND).await?;
    server.stderr_line("serving generation=0", BOUND).await?;
    let web = Target::Tcp(web);
    ensure!(get(&web, "/").await?.text() == "hello\n");

    // A client that asks all the time, on one connection, and is never refused.
    let asked = web.clone();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let client = tokio::spawn(async move {
        let mut connection = Connection::open(&asked).await?;
        let mut seen: Vec<String> = Vec::new();
        while stopped.try_recv().is_err() {
            let greeting = get_on(&mut connection, "/").await?.text();
            if seen.last() != Some(&greeting) {
                seen.push(greeting);
            }
            sleep(Duration::from_millis(2)).await;
        }
        anyhow::Ok(seen)
    });

    // Each for a reason of its own.
    let first = server.first();
    let broken = [
        (r#""web=127.0.0.1:0", "#, "x", "trailing comma"),
        (r#""web=127.0.0.1:0", "192.0.2.1:80""#, "x", "192.0.2.1:80"),
    ];
    for (listen, greeting, why) in broken {
        write(listen, greeting)?;
        let tried = server.stderr().len();
        first.signal(Signal::HUP)?;
        let failed =
            |line: &String| line.contains("upgrade failed, serving on") && line.contains(why);
        eventually("the upgrade to fail", BOUND, async || {
            server.stderr()[tried..].iter().any(failed).then_some(())
        })
        .await?;
        ensure!(get(&web, "/").await?.text() == "hello\n");
    }

    // One address more, and another greeting.
    write(r#""web=127.0.0.1:0", "more=127.0.0.1:0""#, "good evening")?;
    first.signal(Signal::HUP)?;
    let more: SocketAddr = server.logged("address=\"more=", "local", BOUND).await?;
    let second: u32 = server.logged("serving generation=1", "pid", BOUND).await?;
    ensure!(first.exit(BOUND).await?.is_success());
    ensure!(get(&Target::Tcp(more), "/").await?.text() == "good evening\n");
    ensure!(get(&web, "/").await?.text() == "good evening\n");
    stop.send(()).ok();
    let seen = client.await??;
    ensure!(seen == ["hello\n", "good evening\n"], "{seen:?}");

    // And one address less.
    write(r#""web=127.0.0.1:0""#, "good night")?;
    let second = Process::open(second)?;
    second.signal(Signal::HUP)?;
    let third: u32 = server.logged("serving generation=2", "pid", BOUND).await?;
    ensure!(second.exit(BOUND).await?.is_success());
    ensure!(get(&Target::Tcp(more), "/").await.is_err());
    ensure!(get(&web, "/").await?.text() == "good night\n");
    let third = Process::open(third)?;
    third.signal(Signal::TERM)?;
    ensure!(third.exit(BOUND).await?.is_success());
    Ok(())
}
