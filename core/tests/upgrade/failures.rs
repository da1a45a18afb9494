//! Successors that fail: the predecessor serves on, and the next try works.

use std::{fs, os::unix::fs::PermissionsExt};

use rustix::process::Signal;

use super::{
    server,
    service::{Ready, Service, ask, connect, send, who},
};

/// The predecessor is what it was, and can still be replaced.
fn serves_on_and_tries_again(service: &Service, first: &Ready) {
    assert_eq!(who(&first.addresses[0]), first.pid);
    assert_eq!(service.pid_file(), Some(first.pid));
    assert_eq!(ask(&first.addresses[0], "phase"), "running");
    let answer = ask(&first.addresses[0], "upgrade");
    assert!(answer.starts_with("ok"), "{answer}\n{}", service.log());
    let second = service.ready();
    service.served_by(&first.addresses[0], second.pid);
    assert_eq!(service.pid_file(), Some(second.pid));
}

fn fails(fault: &str, env: &[(&str, &str)], expected: &[&str]) {
    let (service, first) = Service::start(env);
    service.fault(fault);
    let answer = ask(&first.addresses[0], "upgrade");
    for text in expected {
        assert!(answer.contains(text), "{text:?} is not in {answer}");
    }
    service.no_fault();
    serves_on_and_tries_again(&service, &first);
}

#[test]
fn an_exit_is_told_with_its_status_and_last_words() {
    fails(
        "exit",
        &[],
        &["kind: Failed", "exit status: 3", "no database"],
    );
    fails(
        "exit-before-start",
        &[],
        &["kind: Failed", "exit status: 5", "the disk is full"],
    );
}

#[test]
fn an_error_is_told_with_what_was_printed() {
    fails(
        "error",
        &[],
        &[
            "exit status: 4",
            "ended before it was ready",
            "no configuration",
        ],
    );
}

#[test]
fn a_panic_is_told() {
    fails(
        "panic",
        &[],
        &[
            "kind: Failed",
            "exit status: 101",
            "it panicked",
            "no luck at all",
        ],
    );
}

#[test]
fn a_death_by_signal_is_told() {
    fails("kill", &[], &["kind: Failed", "signal: 9"]);
}

#[test]
fn a_hang_ends_with_the_time_limit() {
    let limit = [(server::READY_TIMEOUT_MS, "400")];
    fails("hang", &limit, &["kind: TimedOut", "was killed", "400ms"]);
}

/// It may die before or after it has said that it serves: in both cases the predecessor serves, at
/// least while it has a connection left.
#[test]
fn a_death_right_after_ready_gives_the_service_back() {
    let (service, first) = Service::start(&[]);
    let mut held = connect(&first.addresses[0]);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    service.fault("exit-after-ready");
    send(first.pid, Signal::HUP);
    let second = service.ready();
    service.gone(second.pid);
    service.wait_until("the predecessor serves again", || {
        held.ask("phase") == "running"
    });
    service.no_fault();
    serves_on_and_tries_again(&service, &first);
}

#[test]
fn a_missing_program_is_told() {
    let (service, first) = Service::start(&[]);
    fs::rename(service.path("server"), service.path("away")).unwrap();
    let answer = ask(&first.addresses[0], "upgrade");
    assert!(
        answer.contains("kind: Spawn") && answer.contains("NotFound"),
        "{answer}"
    );
    assert!(
        answer.contains(service.path("server").to_str().unwrap()),
        "{answer}"
    );
    fs::rename(service.path("away"), service.path("server")).unwrap();
    serves_on_and_tries_again(&service, &first);
}

#[test]
fn a_program_that_cannot_be_executed_is_told() {
    let (service, first) = Service::start(&[]);
    fs::rename(service.path("server"), service.path("away")).unwrap();
    let write = |content: &[u8], mode| {
        fs::write(service.path("server"), content).unwrap();
        fs::set_permissions(service.path("server"), fs::Permissions::from_mode(mode)).unwrap();
    };
    write(b"a text", 0o644);
    let answer = ask(&first.addresses[0], "upgrade");
    assert!(
        answer.contains("kind: Spawn") && answer.contains("PermissionDenied"),
        "{answer}"
    );
    // The system takes it for a shell script, and then the shell says what it is.
    write(b"\x7fELF of another machine", 0o755);
    let answer = ask(&first.addresses[0], "upgrade");
    assert!(
        answer.contains("kind: Failed") && answer.contains("exit status: 12"),
        "{answer}"
    );
    fs::remove_file(service.path("server")).unwrap();
    fs::rename(service.path("away"), service.path("server")).unwrap();
    serves_on_and_tries_again(&service, &first);
}

/// A deployment that writes the file in place, or another thread that forks while it does.
#[test]
fn a_program_that_is_open_for_writing_is_waited_for() {
    let (service, first) = Service::start(&[]);
    let copy = service.path("copy");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::remove_file(service.path("server")).unwrap();
    std::os::unix::fs::symlink(&copy, service.path("server")).unwrap();
    let written = fs::File::options().write(true).open(&copy).unwrap();
    let answer = ask(&first.addresses[0], "upgrade");
    assert!(
        answer.contains("kind: Spawn") && answer.contains("ExecutableFileBusy"),
        "{answer}"
    );
    assert_eq!(who(&first.addresses[0]), first.pid);
    let mut talk = connect(&first.addresses[0]);
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| talk.ask("upgrade"));
        // Much less than it waits for, which is 400 ms.
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(written);
        let answer = answer.join().unwrap();
        assert!(answer.starts_with("ok"), "{answer}");
    });
    let second = service.ready();
    drop(talk);
    service.served_by(&first.addresses[0], second.pid);
}

#[test]
fn a_program_that_is_no_successor_is_told() {
    let (service, first) = Service::start(&[]);
    fs::rename(service.path("server"), service.path("away")).unwrap();
    std::os::unix::fs::symlink("/bin/true", service.path("server")).unwrap();
    let answer = ask(&first.addresses[0], "upgrade");
    assert!(answer.contains("exit status: 0"), "{answer}");
    fs::remove_file(service.path("server")).unwrap();
    fs::rename(service.path("away"), service.path("server")).unwrap();
    serves_on_and_tries_again(&service, &first);
}

/// Fails if a signal during a failing attempt is lost, or if two are two attempts. One of the same
/// kind is kept where signals are received, one of another kind by who decides.
#[test]
fn a_signal_during_a_failing_attempt_is_kept() {
    for again in [
        &[Signal::HUP, Signal::HUP][..],
        &[Signal::USR1],
        &[Signal::HUP, Signal::USR1],
    ] {
        let (service, first) = Service::start(&[(server::READY_TIMEOUT_MS, "1000")]);
        service.fault("hang");
        send(first.pid, Signal::HUP);
        service.line("hanging");
        for signal in again {
            send(first.pid, *signal);
        }
        if again.contains(&Signal::USR1) {
            service.logged("another is kept");
        }
        // The first attempt times out; the one that was kept begins.
        service.line("hup done");
        service.line("hanging");
        service.no_fault();
        let second = service.ready();
        service.gone(first.pid);
        service.served_by(&second.addresses[0], second.pid);
        assert_eq!(service.log().matches("successor started").count(), 2);
    }
}
