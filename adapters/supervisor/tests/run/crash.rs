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
