//! The example is restarted and stopped under its client, which notices the stop only.

use std::{net::SocketAddr, time::Duration};

use handover_tests::harness::{Process, Program, Signal, eventually};

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn its_client_goes_on_over_a_restart() -> anyhow::Result<()> {
    let server = Program::new(env!("CARGO_BIN_EXE_tonic-hello"))
        .arg("127.0.0.1:0")
        .spawn()?;
    let address: SocketAddr = server.logged("listening addr=", "addr", BOUND).await?;
    server.stderr_line("serving generation=0", BOUND).await?;
    let client = Program::new(env!("CARGO_BIN_EXE_tonic-hello-client"))
        .arg(address.to_string())
        .spawn()?;
    let says = async |more: usize| {
        let wanted = client.stdout().len() + more;
        eventually("the client to be answered", BOUND, async || {
            (client.stdout().len() >= wanted).then_some(())
        })
        .await
    };
    says(3).await?;

    server.first().signal(Signal::HUP)?;
    let second = server.logged("serving generation=1", "pid", BOUND).await?;
    assert!(server.first().exit(BOUND).await?.is_success());
    says(3).await?;
    assert!(client.first().is_running());
    assert_eq!(client.stderr(), [""; 0]);
    assert!(client.stdout().iter().all(|line| line == "hello, you"));

    let second = Process::open(second)?;
    second.signal(Signal::TERM)?;
    assert!(second.exit(BOUND).await?.is_success());
    assert!(!client.first().exit(BOUND).await?.is_success());
    Ok(())
}
