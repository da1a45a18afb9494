//! The example is restarted, and its client resumes the session.

use std::{net::SocketAddr, time::Duration};

use handover_tests::{
    harness::{Process, Program, Signal, eventually},
    hello,
    load::{Target, get},
    tls::Certificates,
};

#[tokio::test]
async fn the_smallest_one_restarts_and_stops() -> anyhow::Result<()> {
    hello::restarts_over_tls(env!("CARGO_BIN_EXE_axum-tls-hello")).await
}

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn sessions_outlive_a_restart() -> anyhow::Result<()> {
    let certificates = Certificates::new()?;
    let server = Program::new(env!("CARGO_BIN_EXE_axum-tls"))
        .arg("127.0.0.1:0")
        .arg(certificates.certificate())
        .arg(certificates.key())
        .env("NO_COLOR", "1")
        .spawn()?;
    let address: SocketAddr = server.logged("listening addr=", "addr", BOUND).await?;
    server.stderr_line("serving generation=0", BOUND).await?;
    let target = Target::Tls(address, certificates.client()?);
    let first = get(&target, "/").await?.text();
    assert!(
        first.starts_with("hello for the first time, over"),
        "{first}"
    );

    certificates.renew()?;
    server.first().signal(Signal::USR1)?;
    server.stderr_line("certificate read anew", BOUND).await?;

    server.first().signal(Signal::HUP)?;
    let second = server.logged("serving generation=1", "pid", BOUND).await?;
    assert!(server.first().exit(BOUND).await?.is_success());
    let again = get(&target, "/").await?.text();
    assert!(again.starts_with("hello again, over"), "{again}");

    let second = Process::open(second)?;
    second.signal(Signal::TERM)?;
    assert!(second.exit(BOUND).await?.is_success());
    eventually("nobody to listen", BOUND, async || {
        get(&target, "/").await.is_err().then_some(())
    })
    .await
}
