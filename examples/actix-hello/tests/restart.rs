//! The example is stopped and restarted.

use std::{net::SocketAddr, time::Duration};

use handover_tests::{
    harness::{Process, Program, Signal},
    load::{Target, get},
};

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn it_restarts_on_hup_and_stops_on_term() -> anyhow::Result<()> {
    let server = Program::new(env!("CARGO_BIN_EXE_actix-hello"))
        .arg("127.0.0.1:0")
        .env("NO_COLOR", "1")
        .spawn()?;
    let address: SocketAddr = server.logged("listening addr=", "addr", BOUND).await?;
    let target = Target::Tcp(address);
    assert_eq!(get(&target, "/").await?.body, b"hello\n");

    server.first().signal(Signal::HUP)?;
    // The port was chosen by the first generation.
    let line = format!("listening addr={address} generation=1");
    server.stderr_line(&line, BOUND).await?;
    let second = server.logged("serving generation=1", "pid", BOUND).await?;
    assert!(server.first().exit(BOUND).await?.is_success());
    assert_eq!(get(&target, "/").await?.body, b"hello\n");

    let second = Process::open(second)?;
    second.signal(Signal::TERM)?;
    assert!(second.exit(BOUND).await?.is_success());
    server
        .stderr_line("drained in 0.00", Duration::ZERO)
        .await?;
    assert!(get(&target, "/").await.is_err(), "somebody still listens");
    Ok(())
}
