//! The service says that it is not ready before it stops, and serves meanwhile.

use std::{net::SocketAddr, time::Duration};

use handover_tests::{
    harness::{Exit, Program, Signal, eventually},
    load::{Target, get},
};

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn it_is_not_ready_before_it_stops() -> anyhow::Result<()> {
    let server = Program::new(env!("CARGO_BIN_EXE_axum-observed"))
        .args(["127.0.0.1:0", "127.0.0.1:0"])
        .env("NO_COLOR", "1")
        .spawn()?;
    let admin: SocketAddr = server.logged("observed addr=", "addr", BOUND).await?;
    let address: SocketAddr = server.logged("listening addr=", "addr", BOUND).await?;
    let (admin, address) = (Target::Tcp(admin), Target::Tcp(address));
    let status = async |target: &Target, path: &str| {
        let answer = get(target, path).await?;
        anyhow::Ok(answer.head.status)
    };
    for target in [&admin, &address] {
        for path in ["/livez", "/readyz", "/startupz"] {
            assert_eq!(status(target, path).await?, 200, "{path}");
        }
    }
    let says = get(&admin, "/status").await?.text();
    let release = format!("\"release\":\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(says.contains(&release), "{says}");
    server.first().signal(Signal::TERM)?;
    eventually("not to be ready", BOUND, async || {
        let status = status(&admin, "/readyz").await.ok()?;
        (status == 503).then_some(())
    })
    .await?;
    assert_eq!(status(&address, "/").await?, 200);
    assert_eq!(status(&admin, "/livez").await?, 200);
    assert_eq!(server.first().exit(BOUND).await?, Exit::Status(0));
    Ok(())
}
