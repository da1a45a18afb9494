//! As process 1 of a container: in a pid namespace of its own.

use std::{fs, path::Path, process::Command};

use rustix::process::Signal;

use crate::support::{Run, app, send};

/// `None` if this machine lets us make no namespace.
fn start(flags: &[&str], what: &str) -> Option<(Run, u32)> {
    let can = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no pid namespace can be made here");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(env!("CARGO_BIN_EXE_handover"));
    command
        .args(["run", "--listen", "web=127.0.0.1:0", "--probation", "0"])
        .args(flags)
        .arg("--");
    command.args(app());
    let run = Run::spawn(dir, command, what);
    run.answers();
    // The only child of unshare.
    let tasks = format!("/proc/{0}/task/{0}/children", run.pid());
    let one = run.until("process 1", || {
        fs::read_to_string(&tasks).ok()?.trim().parse().ok()
    });
    Some((run, one))
}

#[test]
fn signals_come_and_orphans_are_reaped() {
    let Some((mut run, one)) = start(&[], "notify orphan") else {
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

/// As a service that uses Handover, which needs nobody.
#[test]
fn a_service_that_uses_handover_is_run_there() {
    let Some((mut run, one)) = start(&[], "handover") else {
        return;
    };
    send(one, Signal::HUP);
    run.logged("generation 1 serves", 1);
    run.answers();
    send(one, Signal::TERM);
    assert!(run.ended().success(), "{}", run.log());
}
