//! What a program finds when it is started, and what it may say.

use std::{fs, os::unix::fs::PermissionsExt, os::unix::net::UnixDatagram};

use rustix::process::Signal;

use crate::support::{Run, get, variable};

#[test]
fn every_dialect_names_the_sockets_and_each_can_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let unix = format!("api=unix:{}", path.display());
    let run = Run::start_in(
        dir,
        &["--listen", &unix, "--listen", "dns=udp:127.0.0.1:0"],
        "notify",
    );
    let pid = run.answers();
    let env = get(run.address(), "/env").unwrap();
    let value = |name: &str| variable(&env, name).unwrap_or_default();
    assert_eq!(value("LISTEN_PID"), pid.to_string());
    assert_eq!(
        (value("LISTEN_FDS"), value("LISTEN_FDNAMES")),
        ("3".into(), "web:api:dns".into())
    );
    assert_eq!(value("EINHORN_MASTER_PID"), run.pid().to_string());
    assert_eq!(
        (value("EINHORN_FDS"), value("EINHORN_FD_2")),
        ("3 4 5".into(), "5".into())
    );
    let starter = format!("127.0.0.1:0=3;{}=4;127.0.0.1:0=5", path.display());
    assert_eq!(value("SERVER_STARTER_PORT"), starter);
    assert_eq!(value("SERVER_STARTER_GENERATION"), "1");
    assert_eq!(value("NOTIFY_FD"), "6");
    assert!(value("NOTIFY_SOCKET").starts_with('@'));

    let all = ["systemd", "einhorn", "server-starter", "notify", "crank"];
    let marks = [
        "LISTEN_FDS",
        "EINHORN_FDS",
        "SERVER_STARTER_PORT",
        "NOTIFY_SOCKET",
        "NOTIFY_FD",
    ];
    for (dialect, mark) in all.into_iter().zip(marks) {
        let run = Run::start(&["--no-env", dialect, "--ready-after", "0.1"], "");
        run.answers();
        let env = get(run.address(), "/env").unwrap();
        for other in marks {
            assert_eq!(
                variable(&env, other).is_some(),
                other != mark,
                "{dialect}: {other}"
            );
        }
    }
}

#[test]
fn what_was_meant_for_us_is_not_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let notify = dir.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args([
        "run",
        "--listen",
        "127.0.0.1:0",
        "--no-env",
        "notify",
        "--ready-after",
        "0.1",
        "--",
    ]);
    command.args(crate::support::app());
    // `spawn` takes it away, for the test may run under a manager itself.
    let mut with = std::process::Command::new("env");
    with.arg(format!("NOTIFY_SOCKET={}", notify.display()))
        .args(["WATCHDOG_USEC=1", "LISTEN_PID=1"]);
    with.arg(command.get_program()).args(command.get_args());
    let mut run = Run::spawn(dir, with, "");
    run.answers();
    let env = get(run.address(), "/env").unwrap();
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC"] {
        assert_eq!(variable(&env, name), None, "{name}");
    }
    // And our own manager hears of us.
    let mut bytes = [0; 1024];
    let length = manager.recv(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    assert!(text.contains("READY=1\n"), "{text}");
    run.signal(Signal::TERM);
    let length = manager.recv(&mut bytes).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..length]).contains("STOPPING=1"));
    assert!(run.ended().success());
}

#[test]
fn a_program_gets_its_sockets_and_no_other() {
    let run = Run::start(&[], "notify");
    for _ in 0..3 {
        run.replace();
    }
    run.answers();
    let sockets = get(run.address(), "/sockets").unwrap();
    // The listener; ServiceSocket's duplicate of it is the same socket; crank's; the connection
    // that asks; tokio's own pair for signals.
    let mut distinct: Vec<_> = sockets.lines().collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() <= 5, "{sockets}");
    let control = fs::metadata(run.path("control")).unwrap();
    assert_eq!(control.permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_environment_is_read_anew_for_each_generation() {
    let dir = tempfile::tempdir().unwrap();
    let vars = dir.path().join("vars");
    fs::create_dir(&vars).unwrap();
    fs::write(vars.join("COLOUR"), "red\n").unwrap();
    fs::write(vars.join("SHAPE"), "round").unwrap();
    let run = Run::start_in(dir, &["--env-dir", vars.to_str().unwrap()], "notify");
    run.answers();
    let value = |name: &str| variable(&get(run.address(), "/env").unwrap(), name);
    assert_eq!(
        (value("COLOUR"), value("SHAPE")),
        (Some("red".into()), Some("round".into()))
    );
    fs::write(vars.join("COLOUR"), "blue").unwrap();
    fs::remove_file(vars.join("SHAPE")).unwrap();
    run.replace();
    assert_eq!(
        (value("COLOUR"), value("SHAPE")),
        (Some("blue".into()), None)
    );
}

#[test]
fn signals_are_passed_on() {
    let run = Run::start(&[], "notify");
    let pid = run.answers();
    run.signal(Signal::USR2);
    run.until("the signal", || {
        run.read("stdout")
            .contains(&format!("usr2 {pid}"))
            .then_some(())
    });
    assert_eq!(run.answers(), pid);
}

#[test]
fn lines_have_their_process_and_none_is_lost() {
    let mut run = Run::start(&["--prefix"], "notify talks");
    let first = run.answers();
    run.replace();
    let second = run.answers();
    run.signal(Signal::TERM);
    assert!(run.ended().success());
    let out = run.read("stdout");
    assert_eq!(out.matches(" of many\n").count(), 6000);
    for pid in [first, second] {
        // The last one has no end, and its writer has gone.
        for line in [
            format!("[{pid}] first line of {pid}\n"),
            format!("[{pid}] last line of {pid}\n"),
        ] {
            assert!(out.contains(&line), "{line}{out}");
        }
    }
}

#[test]
fn a_program_that_is_missing_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(["run", "--", "no-such-program"]);
    let mut run = Run::spawn(dir, command, "");
    assert_eq!(run.ended().code(), Some(127));
    assert!(run.log().contains("no-such-program"), "{}", run.log());
}

#[test]
fn the_end_of_a_program_may_be_ours() {
    let mut run = Run::start(&["--no-restart"], "exit");
    assert_eq!(run.ended().code(), Some(3));
}
