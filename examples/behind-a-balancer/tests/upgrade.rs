//! A client's address is its own before and after an upgrade.

use std::{net::SocketAddr, time::Duration};

use handover_tests::{
    harness::{Program, Signal},
    load::{Connection, Io, Target, get_on},
};

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn it_knows_its_clients_before_and_after_an_upgrade() -> anyhow::Result<()> {
    let server = Program::new(env!("CARGO_BIN_EXE_behind-a-balancer"))
        .arg("127.0.0.1:0")
        .spawn()?;
    let address: SocketAddr = server.logged("ready local=", "local", BOUND).await?;
    let mut connection = Connection::open(&Target::Tcp(address)).await?;
    let Io::Tcp(io) = connection.get_ref() else {
        anyhow::bail!("it connects over TCP");
    };
    let balancer = io.local_addr()?;
    // Version 2: the addresses, then the authority.
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1a\xcb\0\x71\x09\xc0\0\x02\x01\xc8\x22\x01\xbb\
                   \x02\0\x0bexample.org";
    connection.send(header).await?;
    let answer = format!("203.0.113.9:51234 asked {balancer} for example.org\n");
    assert_eq!(get_on(&mut connection, "/").await?.text(), answer);
    let first = server.first();
    first.signal(Signal::HUP)?;
    let _: u32 = server.logged("serving generation=1", "pid", BOUND).await?;
    assert_eq!(get_on(&mut connection, "/").await?.text(), answer);
    assert!(first.exit(BOUND).await?.is_success());
    assert_eq!(get_on(&mut connection, "/").await?.text(), answer);
    Ok(())
}
