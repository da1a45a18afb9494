//! What every example of a smallest server is put through.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;

use crate::{
    harness::{Program, Signal},
    load::{Target, get},
    tls::Certificates,
};

const BOUND: Duration = Duration::from_secs(20);

/// Starts a program that says hello on the address of its first argument, restarts it by HUP, and
/// stops it by TERM.
///
/// # Errors
///
/// If it does not answer, or restart, or stop, or somebody still listens then.
pub async fn restarts_on_hup_and_stops_on_term(program: &str) -> anyhow::Result<()> {
    restarts(Program::new(program).arg("127.0.0.1:0"), Target::Tcp).await
}

/// The same of a program whose second and third arguments are a certificate and its key.
///
/// # Errors
///
/// As for [`restarts_on_hup_and_stops_on_term`].
pub async fn restarts_over_tls(program: &str) -> anyhow::Result<()> {
    let certificates = Certificates::new()?;
    let client = certificates.client()?;
    let program = Program::new(program)
        .arg("127.0.0.1:0")
        .arg(certificates.certificate())
        .arg(certificates.key());
    restarts(program, |address| Target::Tls(address, client)).await
}

async fn restarts(
    program: Program,
    target: impl FnOnce(SocketAddr) -> Target,
) -> anyhow::Result<()> {
    let server = program.env("NO_COLOR", "1").spawn()?;
    let address: SocketAddr = server.logged("listening addr=", "addr", BOUND).await?;
    let target = target(address);
    ensure!(get(&target, "/").await?.body == b"hello\n");

    let second = server.replace(server.first(), 1, BOUND).await?;
    // The port was chosen by the first generation.
    let line = format!("listening addr={address} generation=1");
    server.stderr_line(&line, BOUND).await?;
    ensure!(server.first().exit(BOUND).await?.is_success());
    ensure!(get(&target, "/").await?.body == b"hello\n");

    second.signal(Signal::TERM)?;
    ensure!(second.exit(BOUND).await?.is_success());
    server
        .stderr_line("drained in 0.00", Duration::ZERO)
        .await?;
    ensure!(get(&target, "/").await.is_err(), "somebody still listens");
    Ok(())
}
