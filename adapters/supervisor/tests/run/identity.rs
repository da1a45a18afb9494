//! Who we are, which does not change, and who the program is.

use std::{fs, os::unix::fs::MetadataExt};

use rustix::process::Signal;

use crate::{
    load::Load,
    support::{Run, get},
};

#[test]
fn the_process_id_stays_over_a_hundred_replacements_and_our_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let status = dir.path().join("status");
    let flags = [
        "--probation",
        "0",
        "--prefix",
        "--pid-file",
        file.to_str().unwrap(),
        "--status-file",
        status.to_str().unwrap(),
        "--reexec-signal",
        "USR1",
    ];
    let mut run = Run::start_in(dir, &flags, "notify");
    let mut old = run.answers();
    let before = fs::metadata(&file).unwrap().ino();
    let ours = format!("{}\n", run.pid());
    let load = Load::start(run.address(), 2);
    for round in 0..100 {
        if round % 25 == 10 {
            let (status, text) = run.handover(&["reexec"]);
            assert_eq!(status, Some(0), "{text}\n{}", run.log());
            assert_eq!(run.answers(), old, "its processes are not touched");
        }
        run.signal(Signal::HUP);
        old = run.answers_not(old);
        assert_eq!(fs::read_to_string(&file).unwrap(), ours);
    }
    run.signal(Signal::USR1);
    run.logged("goes on with its new program", 5);
    assert_eq!(run.answers(), old);
    load.stop().nothing_lost();
    assert_eq!(fs::metadata(&file).unwrap().ino(), before);
    run.until("the status file", || {
        (fs::read_to_string(&status).unwrap() == format!("101:{old}\n")).then_some(())
    });
    // What it has started before and after is stopped, and nothing is left behind.
    run.signal(Signal::TERM);
    assert!(run.ended().success(), "{}", run.log());
    for gone in [&file, &status, &run.path("control")] {
        assert!(!gone.exists(), "{}", gone.display());
    }
    let line = format!("[{old}] last line of {old}\n");
    assert!(run.read("stdout").contains(&line));
}

#[test]
fn a_program_of_ours_that_cannot_go_on_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("handover");
    fs::copy(env!("CARGO_BIN_EXE_handover"), &ours).unwrap();
    let mut command = std::process::Command::new(&ours);
    let control = dir.path().join("control");
    command
        .args(["run", "--listen", "127.0.0.1:0", "--control"])
        .arg(control)
        .arg("--");
    command.args(crate::support::app());
    let run = Run::spawn(dir, command, "notify");
    let old = run.answers();
    for script in ["#!/bin/sh\necho too old >&2; exit 2\n", "no program\n"] {
        let new = run.path("new");
        fs::write(&new, script).unwrap();
        fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename(&new, &ours).unwrap();
        let (status, text) = run.handover(&["reexec"]);
        assert_eq!(status, Some(3), "{text}");
        assert_eq!(run.answers(), old);
    }
    assert!(run.log().contains("too old"), "{}", run.log());
    run.replace();
}

#[test]
fn rights_are_dropped_for_good() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(dir.path(), anybody).unwrap();
    // The test's own binary may lie where nobody else can go.
    let program = dir.path().join("program");
    let [app, rest @ ..] = crate::support::app();
    fs::copy(app, &program).unwrap();
    // Groups of ours that are none of its.
    let mut command = std::process::Command::new("setpriv");
    command.args(["--groups", "0,4,24", env!("CARGO_BIN_EXE_handover")]);
    command.args(["run", "--listen", "127.0.0.1:0", "--user", "nobody"]);
    command.arg("--control").arg(dir.path().join("control"));
    command.args(["--ready", "said", "--"]);
    command.arg(&program).args(rest);
    let run = Run::spawn(dir, command, "notify");
    run.logged("is ready", 1);
    has_only_the_rights_of_nobody(&run);
    run.replace();
    has_only_the_rights_of_nobody(&run);
}

fn has_only_the_rights_of_nobody(run: &Run) {
    let address = run.address();
    let status = get(address, "/status").unwrap();
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.split_whitespace()
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>()
    };
    let nobody = "65534".to_owned();
    assert_eq!(field("Uid:"), vec![nobody.clone(); 4]);
    assert_eq!(field("Groups:"), [nobody]);
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    assert_eq!(field("SigBlk:"), ["0000000000000000"]);
    let env = get(address, "/env").unwrap();
    assert_eq!(
        crate::support::variable(&env, "USER").as_deref(),
        Some("nobody")
    );
}
