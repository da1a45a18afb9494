//! Programs that die.

use std::{net::TcpStream, sync::atomic::Ordering, thread};

use rustix::process::Signal;

use crate::{
    load::Load,
    support::{Run, ask, send},
};

/// How often.
const TIMES: usize = 20;

#[test]
fn what_the_kernel_had_queued_is_served_by_the_next_process() {
    let run = Run::start(&["--ready-after", "0.1"], "");
    let address = run.address();
    let mut pid = run.answers();
    for round in 0..TIMES {
        // One that dies before it is ready is started later and later.
        run.logged("is ready", round + 1);
        // Nobody accepts from now on.
        send(pid, Signal::STOP);
        run.until("it stands still", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.contains(") T ").then_some(())
        });
        let queued: Vec<_> = (0..5)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let asked = queued
            .into_iter()
            .map(|stream| thread::spawn(move || ask(stream, "/")));
        let asked: Vec<_> = asked.collect();
        send(pid, Signal::KILL);
        for one in asked {
            let answer: u32 = one.join().unwrap().unwrap().parse().unwrap();
            assert_ne!(answer, pid);
        }
        pid = run.answers();
    }
}

#[test]
fn under_load_nobody_is_refused_and_only_the_accepted_are_broken_off() {
    let run = Run::start(&["--ready-after", "0.1"], "notify");
    let mut pid = run.answers();
    let clients = 4;
    let load = Load::start(run.address(), clients);
    for _ in 0..TIMES {
        let before = load.answered();
        send(pid, Signal::KILL);
        pid = run.answers_not(pid);
        run.until("more answers", || {
            (load.answered() > before + 10).then_some(())
        });
    }
    let counts = load.stop();
    assert!(counts.refused.lock().unwrap().is_empty(), "{counts:?}");
    let broken = counts.broken.lock().unwrap().len();
    // Those that the killed process had accepted.
    assert!(broken <= TIMES * clients, "{counts:?}");
    assert!(counts.answered.load(Ordering::Relaxed) > TIMES);
}

#[test]
fn one_that_dies_at_once_is_started_ever_later() {
    let mut run = Run::start(&[], "exit");
    run.logged("is started again in 0.4 s", 1);
    run.app("notify");
    run.answers();
    run.signal(Signal::TERM);
    assert!(run.ended().success());
    assert_eq!(run.log().matches("no database").count(), 3, "{}", run.log());
}

#[test]
fn nothing_is_left_of_what_has_ended() {
    let run = Run::start(&["--probation", "0"], "notify orphan");
    for _ in 0..5 {
        run.replace();
    }
    let pid = run.pid();
    run.until("no zombies", || {
        let mut zombies = 0;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some((_, rest)) = stat.rsplit_once(')') else {
                continue;
            };
            let fields: Vec<_> = rest.split_whitespace().collect();
            zombies += usize::from(fields[0] == "Z" && fields[1] == pid.to_string());
        }
        (zombies == 0).then_some(())
    });
}

#[test]
fn all_that_have_ended_at_once_are_reaped() {
    let run = Run::start(&["--workers", "5"], "notify");
    run.logged(" serves\n", 5);
    let log = run.log();
    let pids: Vec<u32> = log
        .lines()
        .filter_map(|line| {
            line.strip_prefix("handover: process ")?
                .strip_suffix(" serves")
        })
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 5, "{log}");
    // While it stands still their signals become one.
    send(run.pid(), Signal::STOP);
    for pid in &pids {
        send(*pid, Signal::KILL);
    }
    let ended = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    };
    run.until("all have ended", || pids.iter().all(ended).then_some(()));
    send(run.pid(), Signal::CONT);
    run.logged("has ended: signal 9", 5);
    run.until("no zombies", || (!pids.iter().any(ended)).then_some(()));
    run.logged(" serves\n", 10);
}

#[test]
fn the_last_lines_of_one_that_ends_are_there() {
    // Who reads begins when the program has gone, and all of it is still on its way.
    let script =
        "\"$@\" | { while [ ! -e \"$HANDOVER_RUN_TEST_DIR/read\" ]; do sleep 0.05; done; cat; }";
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_handover")]);
    command.args(["run", "--no-restart", "--prefix", "--"]);
    command.args(crate::support::app());
    let mut run = Run::spawn(dir, command, "talks-and-ends");
    let pid: u32 = run.until("the program", || run.read("talked").parse().ok());
    run.until("it has gone", || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    std::fs::write(run.path("read"), "").unwrap();
    run.ended();
    let out = run.read("stdout");
    assert_eq!(out.matches(" of many\n").count(), 3000);
    // Without an end of its own.
    assert!(
        out.contains(&format!("[{pid}] last line of {pid}\n")),
        "{out}"
    );
}

#[test]
fn no_directory_is_left() {
    let left = |run: &Run| {
        let entries = std::fs::read_dir(run.dir.path()).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("handover-")).count()
    };
    let mut run = Run::start(&[], "notify");
    run.answers();
    assert_eq!(left(&run), 1, "the one of einhorn's socket");
    let (code, text) = run.handover(&["reexec"]);
    assert_eq!((code, left(&run)), (Some(0), 1), "{text}");
    run.signal(Signal::TERM);
    assert!(run.ended().success());
    assert_eq!(left(&run), 0);
}
