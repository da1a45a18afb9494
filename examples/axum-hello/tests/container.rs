//! What `examples/container/Dockerfile` starts, started as process 1 of a pid namespace: both images run
//! this example, the one under the supervisor and the other alone.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use handover_tests::{
    harness::{Process, Program, Server, Signal, beside, eventually},
    load::{Target, get},
};
use tokio::process;

const BOUND: Duration = Duration::from_secs(30);

/// The words of an instruction of one image, which is written as a list.
fn instruction(image: &str, name: &str) -> anyhow::Result<Vec<String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../container/Dockerfile");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let (_, rest) = text
        .split_once(&format!("# ANCHOR: {image}\n"))
        .context("no such image")?;
    let (image, _) = rest.split_once("# ANCHOR_END").context("no end")?;
    let text = image.replace("\\\n", " ");
    let list = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("no {name}"))?;
    let words = list.trim().strip_prefix('[').context("a shell's form")?;
    let words = words.strip_suffix(']').context("a shell's form")?;
    let words = words.split(',').map(|word| word.trim().trim_matches('"'));
    Ok(words.map(str::to_owned).collect())
}

const APP: &str = env!("CARGO_BIN_EXE_axum-hello");

async fn supervisor() -> anyhow::Result<PathBuf> {
    beside(APP, "handover-supervisor", "handover").await
}

const NAMESPACE: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];

/// Starts what an image does, as process 1, with what this machine has for what an image has: a user, a
/// port, a place for the control socket. `None` if no namespace can be made here.
async fn start(words: Vec<String>, control: &Path) -> anyhow::Result<Option<Server>> {
    let mut can = Command::new("unshare");
    if !can.args(NAMESPACE).arg("true").status()?.success() {
        eprintln!("skipped: no pid namespace can be made here");
        return Ok(None);
    }
    let supervisor = supervisor().await?;
    let mut before = String::new();
    let words = words.into_iter().map(|word| {
        let word = match (before.as_str(), word.as_str()) {
            ("--user", "app") => "root".to_owned(),
            (_, "handover") => supervisor.display().to_string(),
            (_, "app") => APP.to_owned(),
            // By name, for a port that nobody knows yet.
            (_, "0.0.0.0:3000") => "web=127.0.0.1:0".to_owned(),
            (_, "/run/handover.control") => control.display().to_string(),
            _ => word,
        };
        before.clone_from(&word);
        word
    });
    let program = Program::new("unshare").args(NAMESPACE).args(words);
    Ok(Some(program.spawn()?))
}

/// The only child of `unshare`, as it is seen from outside.
async fn process_one(server: &Server) -> anyhow::Result<Process> {
    let outer = server.first().pid();
    let file = format!("/proc/{outer}/task/{outer}/children");
    let pid = eventually("process 1", BOUND, async || {
        fs::read_to_string(&file).ok()?.trim().parse().ok()
    });
    Ok(Process::open(pid.await?)?)
}

async fn says_hello(address: SocketAddr) -> anyhow::Result<()> {
    let answer = get(&Target::Tcp(address), "/").await?;
    ensure!(answer.body == b"hello\n");
    Ok(())
}

#[tokio::test]
async fn the_supervised_image_replaces_its_program() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let control = directory.path().join("control");
    let mut words = instruction("supervised", "ENTRYPOINT")?;
    words.extend(instruction("supervised", "CMD")?);
    let Some(server) = start(words, &control).await? else {
        return Ok(());
    };
    let held = server.stderr_line("holds tcp ", BOUND).await?;
    let (_, address) = held.split_once("holds tcp ").context("no address")?;
    let address: SocketAddr = address.trim().parse()?;
    server.stderr_line("serving generation=0", BOUND).await?;
    says_hello(address).await?;

    // As `docker exec … handover upgrade` does.
    let upgraded = process::Command::new(supervisor().await?)
        .args(["upgrade", "--control"])
        .arg(&control)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&upgraded.stderr);
    ensure!(upgraded.status.success(), "{said}");
    server.stderr_line("serving generation=1", BOUND).await?;
    says_hello(address).await?;

    // As `docker stop` does.
    let one = process_one(&server).await?;
    one.signal(Signal::TERM)?;
    ensure!(server.first().exit(BOUND).await?.is_success());
    Ok(())
}

#[tokio::test]
async fn the_image_that_is_alone_drains_and_refuses_an_upgrade() -> anyhow::Result<()> {
    let words = instruction("alone", "ENTRYPOINT")?;
    let Some(server) = start(words, Path::new("")).await? else {
        return Ok(());
    };
    let address = server.logged("listening addr=", "addr", BOUND).await?;
    server.stderr_line("serving generation=0", BOUND).await?;
    says_hello(address).await?;

    let one = process_one(&server).await?;
    one.signal(Signal::HUP)?;
    server.stderr_line("this is process 1", BOUND).await?;
    says_hello(address).await?;
    one.signal(Signal::TERM)?;
    ensure!(server.first().exit(BOUND).await?.is_success());
    server.stderr_line("drained in ", Duration::ZERO).await?;
    Ok(())
}
