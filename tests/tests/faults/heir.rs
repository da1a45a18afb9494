//! An heir that ends before those behind it know of it.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use handover_tests::{
    faults::{self, Action, POINTS, Point, plant, reached},
    harness::{Exit, Signal, eventually},
    load::get,
};

use super::support::{BOUND, Way, directory, listening};

fn point(name: &str) -> &'static Point {
    let named = POINTS.iter().find(|point| point.name == name);
    named.unwrap_or_else(|| panic!("no point {name}"))
}

async fn names(pid_file: &Path, pid: u32) -> anyhow::Result<()> {
    let what = format!("the pid file to name {pid}");
    let named = eventually(&what, BOUND, async || {
        let text = fs::read_to_string(pid_file).ok()?;
        (text == format!("{pid}\n")).then_some(())
    });
    named.await.with_context(|| {
        let text = fs::read_to_string(pid_file);
        format!("it has {text:?}")
    })
}

/// The second of three generations dies in its own upgrade, so the first serves again. The third has
/// the pid file by then, and ends by `signal` before it serves.
pub(crate) async fn gives_the_pid_file_back(signal: Signal) -> anyhow::Result<()> {
    let (_kept, path) = directory();
    let (at, pid_file) = (path("faults"), path("app.pid"));
    fs::create_dir(&at)?;
    let program = listening(Way::Axum.path(), "127.0.0.1:0")
        .arg("--pid-file")
        .arg(&pid_file)
        .args(["--probation", "60", "--upgrade-deadline", "120"])
        .env(faults::VARIABLE, &at);
    let server = program.start().await?;
    let first = server.newest();
    first.process.signal(Signal::HUP)?;
    let second = server.ready(1, BOUND).await?;
    server.stderr_line("successor serves", BOUND).await?;
    plant(&at, point("ready-heard"), Action::Kill)?;
    plant(&at, point("pid-file-written"), Action::Hang)?;
    second.process.signal(Signal::HUP)?;
    let third = reached(&at, "pid-file-written", BOUND).await?;
    server.stderr_line("serving again", BOUND).await?;
    // It sees to the pid file before it accepts.
    let answer = get(&first.first_target()?, "/").await?;
    ensure!(answer.head.pid == Some(first.pid()));
    names(&pid_file, third.pid()).await?;
    third.signal(signal)?;
    names(&pid_file, first.pid()).await?;
    let answer = get(&first.first_target()?, "/").await?;
    ensure!(answer.head.pid == Some(first.pid()));
    first.process.signal(Signal::TERM)?;
    let exit = first.process.exit(BOUND).await?;
    ensure!(exit == Exit::Status(0), "{exit}");
    ensure!(!pid_file.exists(), "the pid file is left");
    Ok(())
}
