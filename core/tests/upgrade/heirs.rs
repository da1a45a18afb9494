//! Predecessors that die: the successor carries on alone.

use std::{os::unix::net::UnixStream, path::PathBuf};

use rustix::process::Signal;

use super::{
    server,
    service::{
        Ready, Service, Talk, alive, ask, command, connect, connect_unix, directory, send, state,
    },
};

fn pid_of(text: &str) -> u32 {
    text.strip_prefix(" pid=").unwrap().parse().unwrap()
}

#[test]
fn killed_before_the_successor_is_ready() {
    let (mut service, first) = Service::start(&[]);
    service.fault("hang");
    send(first.pid, Signal::HUP);
    let second = pid_of(&service.line("hanging"));
    send(first.pid, Signal::KILL);
    assert!(!service.first_ended().success());
    service.no_fault();
    let ready = service.ready();
    assert_eq!((ready.pid, ready.generation), (second, 1));
    assert_eq!(ready.addresses, first.addresses);
    service.served_by(&first.addresses[0], second);
    assert_eq!(service.pid_file(), Some(second));
    // Standard error is whole again, and the line of succession goes on.
    assert_eq!(ask(&first.addresses[0], "speak"), "ok");
    service.logged("spoken 1");
    service.logged("carrying on alone");
    send(second, Signal::HUP);
    let third = service.ready();
    service.served_by(&first.addresses[0], third.pid);
    assert_eq!(service.pid_file(), Some(third.pid));
}

/// Fails if the end of the channel is taken for an error, where a commit was awaited.
#[test]
fn killed_when_it_should_commit() {
    let (mut service, first) = Service::start(&[]);
    service.fault("hang");
    send(first.pid, Signal::HUP);
    let second = pid_of(&service.line("hanging"));
    send(first.pid, Signal::STOP);
    service.wait_until("the stop", || state(first.pid) == Some('T'));
    service.no_fault();
    service.logged("waiting for the commit");
    send(first.pid, Signal::KILL);
    assert!(!service.first_ended().success());
    assert_eq!(service.ready().pid, second);
    service.served_by(&first.addresses[0], second);
    assert_eq!(service.pid_file(), Some(second));
}

/// Upgrades a process that somebody holds open, and kills it while it drains.
fn replaced_by_its_heir(service: &mut Service, first: u32) -> Ready {
    send(first, Signal::HUP);
    let second = service.ready();
    assert!(alive(first));
    send(first, Signal::KILL);
    assert!(!service.first_ended().success());
    service.logged("predecessor gone");
    second
}

#[test]
fn killed_while_it_drains() {
    let (mut service, first) = Service::start(&[]);
    let mut held = connect(&first.addresses[0]);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    let second = replaced_by_its_heir(&mut service, first.pid);
    service.served_by(&first.addresses[0], second.pid);
    assert_eq!(service.pid_file(), Some(second.pid));
    send(second.pid, Signal::TERM);
    service.gone(second.pid);
    assert_eq!(service.pid_file(), None);
}

/// A service with files beside its pid file, and one who holds it open.
fn with_files() -> (Service, Ready, Talk<UnixStream>, [PathBuf; 2]) {
    let dir = directory();
    let path = dir.path().join("app.sock");
    let mut command = command(dir.path());
    command.env(server::LISTEN, format!("unix:{}", path.display()));
    command.env(server::CONTROL, "1");
    let (service, first) = Service::run(dir, command);
    let mut held = connect_unix(&path);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    let files = [path, service.path("control")];
    (service, first, held, files)
}

fn nothing_is_left(service: &Service, files: &[PathBuf]) {
    for left in files {
        assert!(!left.exists(), "{} is left behind", left.display());
    }
    assert_eq!(service.pid_file(), None);
}

/// Fails if an heir takes the socket files for those of a process that may come back, and leaves them
/// behind.
#[test]
fn the_files_of_a_dead_predecessor_go_with_its_heir() {
    let (mut service, first, _held, files) = with_files();
    let second = replaced_by_its_heir(&mut service, first.pid);
    assert_eq!(connect_unix(&files[0]).ask("pid"), second.pid.to_string());
    assert!(files[1].exists());
    send(second.pid, Signal::TERM);
    service.gone(second.pid);
    nothing_is_left(&service, &files);
}

/// Fails if a successor that is told to stop leaves the files to a predecessor, which does not come
/// back to them.
#[test]
fn the_files_go_with_a_successor_that_is_told_to_stop() {
    let (mut service, first, held, files) = with_files();
    send(first.pid, Signal::HUP);
    let second = service.ready();
    send(second.pid, Signal::TERM);
    service.gone(second.pid);
    nothing_is_left(&service, &files);
    drop(held);
    assert!(service.first_ended().success());
}

/// Fails if a predecessor takes over again from a successor that was told to stop.
#[test]
fn a_successor_that_is_told_to_stop_is_not_replaced() {
    let (mut service, first) = Service::start(&[]);
    let mut held = connect(&first.addresses[0]);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    send(first.pid, Signal::HUP);
    let second = service.ready();
    send(second.pid, Signal::TERM);
    service.gone(second.pid);
    service.logged("as it should");
    assert_eq!(held.ask("phase"), "draining");
    assert!(!service.log().contains("serving again"));
    drop(held);
    assert!(service.first_ended().success());
    assert_eq!(service.pid_file(), None);
}

/// Fails if a predecessor takes over again although its successor has a successor of its own.
#[test]
fn three_generations_at_once() {
    let (mut service, first) = Service::start(&[]);
    let mut one = connect(&first.addresses[0]);
    assert_eq!(one.ask("pid"), first.pid.to_string());
    send(first.pid, Signal::HUP);
    let second = service.ready();
    send(second.pid, Signal::HUP);
    let third = service.ready();
    service.gone(second.pid);
    service.logged("as it should");
    assert_eq!(one.ask("phase"), "draining");
    service.served_by(&first.addresses[0], third.pid);
    assert_eq!(service.pid_file(), Some(third.pid));
    drop(one);
    assert!(service.first_ended().success());
    service.served_by(&first.addresses[0], third.pid);
}

/// Fails if the generations on both sides of one that dies during its own upgrade go on serving:
/// the one before it takes it for dead in its probation, the one after it is its heir.
#[test]
fn of_those_around_a_dead_generation_the_newer_serves() {
    let (mut service, first) = Service::start(&[(server::PROBATION_MS, "600000")]);
    let address = &first.addresses[0];
    let mut held = connect(address);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    send(first.pid, Signal::HUP);
    let second = service.ready();
    service.wait_until("the first drains", || held.ask("phase") == "draining");
    service.fault("hang");
    send(second.pid, Signal::HUP);
    let third = pid_of(&service.line("hanging"));
    send(second.pid, Signal::KILL);
    service.wait_until("the first serves", || held.ask("phase") == "running");
    assert_eq!(service.pid_file(), Some(first.pid));
    service.no_fault();
    assert_eq!(service.ready().pid, third);
    service.served_by(address, third);
    service.wait_until("the first drains", || held.ask("phase") == "draining");
    assert_eq!(service.pid_file(), Some(third));
    drop(held);
    assert!(service.first_ended().success());
    service.served_by(address, third);
    send(third, Signal::TERM);
    service.gone(third);
    assert_eq!(service.pid_file(), None);
}

/// Fails if an heir is alone only once it is told to stop: then a path that nobody listens on any
/// more stays for as long as it serves.
#[test]
fn an_heir_removes_what_nobody_uses_any_more_while_it_serves() {
    let dir = directory();
    let path = dir.path().join("old.sock");
    let both = format!("unix:{} 127.0.0.1:0", path.display());
    std::fs::write(dir.path().join("listen"), both).unwrap();
    let mut command = command(dir.path());
    command.env(server::CONTROL, "1");
    let (mut service, first) = Service::run(dir, command);
    let mut held = connect_unix(&path);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    std::fs::write(service.path("listen"), "127.0.0.1:0").unwrap();
    let old_control = service.path("control");
    std::fs::write(service.path("control-name"), "other-control").unwrap();
    let second = replaced_by_its_heir(&mut service, first.pid);
    assert_eq!(second.addresses, first.addresses[1..]);
    for left in [&path, &old_control] {
        assert!(!left.exists(), "{} is left behind", left.display());
    }
    service.served_by(&second.addresses[0], second.pid);
    assert!(service.path("other-control").exists());
}
