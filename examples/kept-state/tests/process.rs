//! The program itself, and real signals.

mod shared;

use std::{error::Error, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStderr, Command},
    time::timeout,
};

use self::shared::ask;

/// For what must happen and has no time of its own.
const BOUND: Duration = Duration::from_secs(20);

// ANCHOR: wait
type Log = Lines<BufReader<ChildStderr>>;

/// Waits for a line of the log, and returns what it says of `key`.
async fn logged(log: &mut Log, line: &str, key: &str) -> Result<String, Box<dyn Error>> {
    loop {
        let next = timeout(BOUND, log.next_line()).await??;
        let next = next.ok_or_else(|| format!("it has ended; waited for {line:?}"))?;
        println!("{next}");
        // What stands before the line is the spans it belongs to, which have fields of their own.
        let from = next.find(line).map(|at| &next[at..]);
        if let Some((_, value)) = from.and_then(|said| said.split_once(key)) {
            let end = value.find(' ').unwrap_or(value.len());
            return Ok(value[..end].to_owned());
        }
    }
}

async fn signal(name: &str, pid: &str) -> Result<(), Box<dyn Error>> {
    let sent = Command::new("kill")
        .args(["-s", name, pid])
        .status()
        .await?;
    assert!(sent.success());
    Ok(())
}
// ANCHOR_END: wait

// ANCHOR: signals
#[tokio::test]
async fn a_hup_replaces_it_and_a_term_ends_it() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let mut first = Command::new(env!("CARGO_BIN_EXE_kept-state"))
        .args(["127.0.0.1:0", "app.log"])
        .current_dir(directory.path())
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut log = BufReader::new(first.stderr.take().ok_or("no log")?).lines();
    let address = logged(&mut log, "listening", "addr=").await?;
    let old = logged(&mut log, "serving generation=0", "pid=").await?;
    ask(&address, "PUT /motto", "carpe diem").await?;

    signal("HUP", &old).await?;
    let new = logged(&mut log, "serving generation=1", "pid=").await?;
    assert_ne!(old, new);
    assert!(timeout(BOUND, first.wait()).await??.success());
    assert_eq!(ask(&address, "GET /motto", "").await?, "carpe diem");

    signal("TERM", &new).await?;
    logged(&mut log, "drained in", "drained in").await?;
    // Its standard error is the first one's, and ends with the last process that has it.
    while timeout(BOUND, log.next_line()).await??.is_some() {}
    assert!(ask(&address, "GET /motto", "").await.is_err());
    Ok(())
}
// ANCHOR_END: signals
