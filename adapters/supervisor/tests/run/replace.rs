//! Replacements, and what may go wrong with them.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{
    load::Load,
    support::{Run, get},
};

#[test]
fn twenty_replacements_under_load_lose_nothing() {
    for app in ["notify", "handover files"] {
        let run = Run::start(&["--probation", "0"], app);
        let mut old = run.answers();
        let load = Load::start(run.address(), 4);
        for _ in 0..20 {
            run.signal(Signal::HUP);
            old = run.answers_not(old);
        }
        let counts = load.stop();
        counts.nothing_lost();
    }
}

#[test]
fn the_old_one_serves_on_if_the_new_one_fails() {
    let run = Run::start(&["--start-timeout", "1", "--probation", "2"], "notify");
    let old = run.answers();
    for (app, why) in [
        ("exit", "exit status 3"),
        ("hang", "was not ready in time"),
        ("notify dies-when-ready", "exit status 5"),
    ] {
        run.app(app);
        let (status, text) = run.upgrade();
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains(why), "{text}");
        assert_eq!(run.answers(), old);
    }
    run.app("notify");
    run.replace();
    assert_ne!(run.answers(), old);
}

#[test]
fn a_program_that_is_gone_is_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("program");
    let [program, rest @ ..] = crate::support::app();
    std::os::unix::fs::symlink(&program, &link).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_handover"));
    command
        .args(["run", "--listen", "127.0.0.1:0", "--probation", "0", "--"])
        .arg(&link)
        .args(rest);
    let mut run = Run::spawn(dir, command, "notify");
    let old = run.answers();
    std::fs::remove_file(&link).unwrap();
    run.signal(Signal::HUP);
    run.logged("there is no such program", 1);
    assert_eq!(run.answers(), old);
    // It is looked up again each time.
    std::os::unix::fs::symlink(&program, &link).unwrap();
    run.signal(Signal::HUP);
    run.answers_not(old);
    run.signal(Signal::TERM);
    assert!(run.ended().success());
}

#[test]
fn who_speaks_is_ready_when_it_says_so() {
    let run = Run::start(&["--ready-after", "0.5", "--probation", "0"], "slow-notify");
    let begun = Instant::now();
    run.logged("is ready", 1);
    assert!(begun.elapsed() >= Duration::from_secs(2), "not by time");
    let (_, status) = run.handover(&["status"]);
    assert!(
        status.contains("loading") || status.contains("running"),
        "{status}"
    );
}

#[test]
fn who_acks_or_writes_to_cranks_descriptor_is_ready() {
    let run = Run::start(&["--ready", "said"], "ack");
    run.logged("is ready", 1);

    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_handover"));
    let script = "printf 'READY=1\\n' >&$NOTIFY_FD; exec \"$@\"";
    command.args([
        "run",
        "--listen",
        "127.0.0.1:0",
        "--ready",
        "said",
        "--",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    command.args(crate::support::app());
    let run = Run::spawn(dir, command, "");
    run.logged("is ready", 1);
    run.answers();
}

#[test]
fn two_wishes_at_once_are_one_more_replacement() {
    let run = Run::start(&["--probation", "0"], "slow-notify");
    run.logged("is ready", 1);
    for _ in 0..5 {
        run.signal(Signal::HUP);
        // Signals of a kind that come together are one, to the kernel.
        std::thread::sleep(Duration::from_millis(50));
    }
    run.logged("generation 2 serves", 1);
    let (_, status) = run.handover(&["status"]);
    assert!(status.starts_with("generation 2"), "{status}");
}

#[test]
fn the_end_is_bounded_and_wins_over_a_replacement() {
    let mut run = Run::start(&["--stop-timeout", "1"], "notify stays");
    run.answers();
    run.app("hang");
    run.signal(Signal::HUP);
    run.logged("generation 1", 1);
    let begun = Instant::now();
    run.signal(Signal::TERM);
    assert_eq!(run.ended().code(), Some(7), "{}", run.log());
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut run = Run::start(&["--stop-timeout", "60"], "notify stays");
    let pid = run.answers();
    run.signal(Signal::TERM);
    run.until("it was told", || {
        run.path(&format!("told-{pid}")).exists().then_some(())
    });
    run.signal(Signal::INT);
    assert_eq!(run.ended().code(), Some(7));
}

#[test]
fn workers_are_replaced_one_by_one_under_load() {
    let run = Run::start(&["--workers", "3", "--probation", "0"], "notify");
    let address = run.address();
    run.logged("serves\n", 3);
    let load = Load::start(address, 4);
    run.replace();
    run.replace();
    load.stop().nothing_lost();
    let (_, status) = run.handover(&["status"]);
    assert_eq!(
        status.matches("generation 2, running").count(),
        3,
        "{status}"
    );
    assert!(!status.contains("still drains"), "{status}");
    // Each can tell which one it is.
    let indices: std::collections::BTreeSet<_> = (0..200)
        .filter_map(|_| {
            crate::support::variable(&get(address, "/env").ok()?, "EINHORN_CHILD_INDEX")
        })
        .collect();
    assert!(
        indices.len() > 1
            && indices
                .iter()
                .all(|index| ["0", "1", "2"].contains(&&**index))
    );
}
