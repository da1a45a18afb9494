//! As process 1 of a container: in a pid namespace of its own.

use std::{fs, path::Path, process::Command};

use rustix::process::Signal;

use crate::support::{Run, app, free_address, get, send};

/// In a namespace of its own; `None` if this machine lets us make none.
fn unshare() -> Option<Command> {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    let mut can = Command::new("unshare");
    can.args(command.get_args()).arg("true");
    if !can.status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no pid namespace can be made here");
        return None;
    }
    Some(command)
}

/// The process that is number 1 there: the only child of unshare.
fn process_one(run: &Run) -> u32 {
    let tasks = format!("/proc/{0}/task/{0}/children", run.pid());
    run.until("process 1", || {
        fs::read_to_string(&tasks).ok()?.trim().parse().ok()
    })
}

fn start(what: &str) -> Option<(Run, u32)> {
    let mut command = unshare()?;
    let dir = tempfile::tempdir().unwrap();
    command.arg(env!("CARGO_BIN_EXE_handover"));
    command.args([
        "run",
        "--listen",
        "web=127.0.0.1:0",
        "--probation",
        "0",
        "--",
    ]);
    command.args(app());
    let run = Run::spawn(dir, command, what);
    run.answers();
    let one = process_one(&run);
    Some((run, one))
}

#[test]
fn signals_come_and_orphans_are_reaped() {
    let Some((mut run, one)) = start("notify orphan") else {
        return;
    };
    let pid = run.answers();
    assert!(pid < 100, "it is in a namespace");
    send(one, Signal::HUP);
    run.logged("generation 1 serves", 1);
    run.until("no zombies", || {
        let children = fs::read_to_string(format!("/proc/{one}/task/{one}/children")).ok()?;
        let zombie = |pid: &str| {
            let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
            stat.is_ok_and(|stat| stat.contains(") Z "))
        };
        (!children.split_whitespace().any(zombie)).then_some(())
    });
    send(one, Signal::TERM);
    assert!(run.ended().success(), "{}", run.log());
}

#[test]
fn a_service_that_uses_handover_runs_there() {
    let Some((mut run, one)) = start("handover") else {
        return;
    };
    send(one, Signal::HUP);
    run.logged("generation 1 serves", 1);
    run.answers();
    send(one, Signal::TERM);
    assert!(run.ended().success(), "{}", run.log());
}

#[test]
fn a_service_that_uses_handover_needs_nobody_to_end_well() {
    let Some(mut command) = unshare() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    fs::write(dir.path().join("address"), address.to_string()).unwrap();
    command.args(app());
    let mut run = Run::spawn(dir, command, "handover");
    let pid = run.until("an answer", || get(address, "/").ok());
    assert_eq!(pid, "1");
    let one = process_one(&run);
    // It refuses an upgrade, and serves on.
    send(one, Signal::HUP);
    assert_eq!(get(address, "/").unwrap(), "1");
    send(one, Signal::TERM);
    assert!(run.ended().success(), "{}", run.log());
}
