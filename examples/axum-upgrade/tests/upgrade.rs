//! The example hands over, with its state, its pid file and a request under way.

use std::{fs, net::SocketAddr, time::Duration};

use handover_tests::{
    harness::{Process, Program, Signal, eventually},
    load::{Connection, Target, get, get_on},
};

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn it_hands_over_and_finishes_what_is_under_way() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let pid_file = directory.path().join("axum-upgrade.pid");
    let server = Program::new(env!("CARGO_BIN_EXE_axum-upgrade"))
        .arg("127.0.0.1:0")
        .env("NO_COLOR", "1")
        .directory(directory.path())
        .spawn()?;
    let address: SocketAddr = server.logged("ready local=", "local", BOUND).await?;
    let target = Target::Tcp(address);
    let first = server.first();
    let pid = format!("{}\n", first.pid());
    assert_eq!(fs::read_to_string(&pid_file)?, pid);
    let greeting = get(&target, "/").await?.body;
    assert!(String::from_utf8_lossy(&greeting).contains(pid.trim()));

    // On a connection that the first generation has for certain.
    let mut connection = Connection::open(&target).await?;
    assert_eq!(get_on(&mut connection, "/generation").await?.body, b"0\n");
    let request = "GET /slow/1500 HTTP/1.1\r\nhost: x\r\n\r\n";
    connection.send(request.as_bytes()).await?;
    server.stderr_line("something slow", BOUND).await?;
    first.signal(Signal::HUP)?;
    let second: u32 = server.logged("serving generation=1", "pid", BOUND).await?;
    eventually("the successor to answer", BOUND, async || {
        let answer = get(&target, "/generation").await.ok()?;
        (answer.body == b"1\n").then_some(())
    })
    .await?;
    assert_eq!(get(&target, "/").await?.body, greeting);
    assert_eq!(fs::read_to_string(&pid_file)?, format!("{second}\n"));
    let mut answer = Vec::new();
    connection
        .receive(|bytes| answer.extend_from_slice(bytes))
        .await?;
    assert_eq!(String::from_utf8(answer)?, "done by generation 0\n");
    assert!(first.exit(BOUND).await?.is_success());
    // The connection has moved.
    let answer = get_on(&mut connection, "/generation").await?;
    assert_eq!(answer.body, b"1\n");
    // An idle client would be given its time to learn of the end.
    drop(connection);

    let second = Process::open(second)?;
    second.signal(Signal::TERM)?;
    assert!(second.exit(BOUND).await?.is_success());
    assert!(!pid_file.exists(), "the last generation left its pid file");
    Ok(())
}
