//! Programs that replace themselves, and are let do so.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
};

use rustix::process::Signal;

use crate::support::{PATIENCE, Run, get, send, variable};

/// How many connections are kept.
const KEPT: usize = 30;

/// A connection that is kept, and never made anew.
struct Kept(TcpStream);

impl Kept {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Who answers. Fails if the connection is closed, or about to be.
    fn ask(&mut self) -> io::Result<u32> {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut text = String::new();
        let mut piece = [0; 512];
        loop {
            let length = self.0.read(&mut piece)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            text.push_str(&String::from_utf8_lossy(&piece[..length]));
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let head = head.to_ascii_lowercase();
            assert!(!head.contains("connection: close"), "{head}");
            let wanted = head.split("content-length: ").nth(1).unwrap();
            let wanted: usize = wanted.lines().next().unwrap().parse().unwrap();
            if body.len() >= wanted {
                return Ok(body.parse().unwrap());
            }
        }
    }
}

fn keep(address: SocketAddr) -> Vec<Kept> {
    let mut kept: Vec<_> = (0..KEPT).map(|_| Kept::open(address)).collect();
    for one in &mut kept {
        one.ask().unwrap();
    }
    kept
}

/// All of them are answered, and by this process.
fn answered_by(kept: &mut [Kept], pid: u32) {
    for (number, one) in kept.iter_mut().enumerate() {
        let answer = one.ask();
        assert!(
            matches!(answer, Ok(who) if who == pid),
            "connection {number} of {pid}: {answer:?}"
        );
    }
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The process that was named as of this generation.
fn starts(run: &Run, generation: u64) -> u32 {
    let text = format!(" starts, generation {generation}, from process ");
    run.until(&text, || {
        let log = run.log();
        let before = log.split(&text).next().filter(|before| *before != log)?;
        before.rsplit(' ').next()?.parse().ok()
    })
}

#[test]
fn idle_connections_stay_open_over_replacements() {
    let run = Run::start(&["--probation", "0"], "axum");
    let mut old = run.answers();
    run.logged(" serves\n", 1);
    let mut kept = keep(run.address());
    for generation in 1..=5 {
        match generation % 2 {
            0 => run.signal(Signal::HUP),
            _ => run.replace(),
        }
        let new = starts(&run, generation);
        run.until("the one before has gone", || (!is_there(old)).then_some(()));
        answered_by(&mut kept, new);
        // Over our own program, too.
        if generation == 3 {
            let (code, text) = run.handover(&["reexec"]);
            assert_eq!(code, Some(0), "{text}");
        }
        old = new;
    }
    let (_, status) = run.handover(&["status"]);
    assert!(status.starts_with("generation 5"), "{status}");
    assert!(status.contains(&format!("(pid {old}): generation 5, running")));
    assert_eq!(run.log().matches("asks process").count(), 5);
    // They are one service's, but the supervisor is there for both.
    assert!(!run.path("app.pid").exists() && !run.path("app.control").exists());
}

#[test]
fn workers_replace_themselves_one_by_one() {
    let run = Run::start(&["--workers", "2", "--probation", "0"], "axum");
    run.logged(" serves\n", 2);
    let mut kept = keep(run.address());
    run.replace();
    let (_, status) = run.handover(&["status"]);
    assert_eq!(
        status.matches("generation 1, running").count(),
        2,
        "{status}"
    );
    assert_eq!(run.log().matches("asks process").count(), 2);
    for one in &mut kept {
        one.ask().unwrap();
    }
}

#[test]
fn the_one_before_serves_on_if_its_successor_fails() {
    let run = Run::start(&["--probation", "0"], "axum");
    let old = run.answers();
    run.logged(" serves\n", 1);
    let mut kept = keep(run.address());
    run.app("exit");
    let (code, text) = run.handover(&["upgrade"]);
    assert_eq!(code, Some(1), "{text}");
    // It knows, and not we, how its successor has ended.
    assert!(text.contains("no database"), "{text}");
    answered_by(&mut kept, old);
    // Killed while it starts.
    run.app("axum waits");
    run.signal(Signal::HUP);
    let successor = starts(&run, 2);
    send(successor, Signal::KILL);
    run.logged("generation 2 does not serve", 1);
    answered_by(&mut kept, old);
    run.app("axum");
    run.replace();
    assert_ne!(kept[0].ask().unwrap(), old);
}

#[test]
fn one_that_is_late_is_killed_and_nothing_has_changed() {
    let run = Run::start(&["--probation", "0"], "axum");
    let old = run.answers();
    run.logged(" serves\n", 1);
    let mut kept = keep(run.address());
    // The service itself would wait for it for a minute; who looks after it has less time.
    run.app("axum waits");
    run.signal(Signal::HUP);
    let successor = starts(&run, 1);
    run.until("it starts", || {
        run.path(&format!("waits-{successor}"))
            .exists()
            .then_some(())
    });
    assert!(is_there(successor));
    answered_by(&mut kept, old);
    std::fs::write(run.path("go"), "").unwrap();
    run.logged("generation 1 serves", 1);
    run.until("the one before has gone", || (!is_there(old)).then_some(()));
    answered_by(&mut kept, successor);
}

#[test]
fn the_one_before_serves_again_if_its_successor_dies_in_its_probation() {
    let run = Run::start(&["--probation", "30"], "axum patient");
    let old = run.answers();
    run.logged(" serves\n", 1);
    let mut kept = keep(run.address());
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| run.handover(&["upgrade"]));
        let successor = starts(&run, 1);
        run.logged(&format!("process {successor} is ready"), 1);
        send(successor, Signal::KILL);
        let (code, text) = upgrade.join().unwrap();
        assert_eq!(code, Some(1), "{text}");
    });
    run.logged(&format!("process {old} serves again"), 1);
    answered_by(&mut kept, old);
    assert_eq!(run.answers(), old);
    assert!(
        !run.log().contains("is started again in 0.0"),
        "{}",
        run.log()
    );
    // And it can be replaced as before.
    run.app("axum");
    run.signal(Signal::HUP);
    let new = starts(&run, 2);
    run.logged(&format!("process {new} is ready"), 1);
    assert!(is_there(old), "it is there until the probation is over");
}

#[test]
fn who_has_put_itself_in_the_place_of_the_first_is_looked_after_like_it() {
    let mut run = Run::start(&["--probation", "0"], "axum");
    let first = run.answers();
    run.logged(" serves\n", 1);
    run.replace();
    let second = starts(&run, 1);
    run.until("the first has gone", || (!is_there(first)).then_some(()));
    send(second, Signal::KILL);
    let third = run.answers_not(second);
    run.logged(&format!("process {second} has ended: signal 9"), 1);
    run.logged(&format!("process {third} serves"), 1);
    let mut kept = keep(run.address());
    run.replace();
    for one in &mut kept {
        one.ask().unwrap();
    }
    run.signal(Signal::TERM);
    assert!(run.ended().success(), "{}", run.log());
}

#[test]
fn an_heir_is_waited_for_and_taken() {
    let run = Run::start(&["--probation", "0"], "axum");
    let old = run.answers();
    run.logged(" serves\n", 1);
    run.app("axum waits");
    run.signal(Signal::HUP);
    let heir = starts(&run, 1);
    run.until("it starts", || {
        run.path(&format!("waits-{heir}")).exists().then_some(())
    });
    send(old, Signal::KILL);
    run.logged(&format!("process {old} has ended: signal 9"), 1);
    std::fs::write(run.path("go"), "").unwrap();
    run.logged(&format!("process {heir} serves"), 1);
    run.logged("generation 1 serves", 1);
    assert_eq!(run.answers(), heir);
    // None was started beside it.
    assert_eq!(run.log().matches(" starts, generation").count(), 2);
}

#[test]
fn a_stop_meanwhile_ends_all_of_them() {
    for serves in [false, true] {
        let mut run = Run::start(&["--probation", "30"], "axum patient");
        let old = run.answers();
        run.logged(" serves\n", 1);
        let mut kept = keep(run.address());
        run.app(if serves { "axum patient" } else { "axum waits" });
        run.signal(Signal::HUP);
        let successor = starts(&run, 1);
        if serves {
            run.logged(&format!("process {successor} is ready"), 1);
        }
        run.signal(Signal::TERM);
        assert!(run.ended().success(), "{}", run.log());
        assert!(!is_there(old) && !is_there(successor));
        for one in &mut kept {
            assert!(one.0.read(&mut [0; 1]).is_ok_and(|length| length == 0));
        }
    }
}

#[test]
fn with_an_environment_that_is_read_anew_we_start_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let vars = dir.path().join("vars");
    std::fs::create_dir(&vars).unwrap();
    let flags = ["--env-dir", vars.to_str().unwrap(), "--probation", "0"];
    let run = Run::start_in(dir, &flags, "axum");
    let old = run.answers();
    run.replace();
    run.answers_not(old);
    assert!(!run.log().contains("asks process"), "{}", run.log());
}

#[test]
fn any_program_may_name_another_process_as_the_main_one() {
    let mut run = Run::start(&["--probation", "0"], "notify names-another");
    let old = run.answers();
    run.logged(" serves\n", 1);
    run.app("notify drains");
    run.signal(Signal::USR2);
    let new = starts(&run, 1);
    run.logged(&format!("process {new} serves"), 1);
    assert_eq!(run.answers_not(old), new);
    assert!(!run.log().contains("has ended"), "{}", run.log());
    // It is ours: told, and waited for.
    run.signal(Signal::TERM);
    run.until("it drains", || {
        run.path(&format!("drains-{new}")).exists().then_some(())
    });
    assert!(is_there(run.pid()));
    std::fs::write(run.path("go"), "").unwrap();
    assert!(run.ended().success(), "{}", run.log());
}

#[test]
fn a_stranger_names_nobody() {
    let run = Run::start(&["--probation", "0"], "notify");
    let pid = run.answers();
    run.logged(" serves\n", 1);
    let env = get(run.address(), "/env").unwrap();
    let address = variable(&env, "NOTIFY_SOCKET").unwrap();
    let notifier = handover::supervise::Notifier::new(address.as_ref()).unwrap();
    // Of our user, but none that it has started.
    let us = std::process::id();
    for text in [
        format!("MAINPID={us}\nREADY=1\n"),
        format!("X_HANDOVER_SUCCESSOR={us}\n"),
    ] {
        notifier.send(&text, &[]).unwrap();
    }
    run.logged("which is not taken: who names it is none of ours", 2);
    assert_eq!(run.answers(), pid);
}
