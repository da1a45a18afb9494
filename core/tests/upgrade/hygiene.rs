//! What passes from process to process besides what is handed over: nothing that should not, and
//! all that a program relies on.

use std::{fs, path::Path, process::Command};

use rustix::process::Signal;

use super::{
    server,
    service::{ARGS, Service, ask, command, connect, directory, prepare, send, who},
};

/// What a child of this test has: the standard streams, the directory that it reads, and what this
/// test was itself started with.
fn bare() -> String {
    server::descriptors_of_a_child()
}

#[test]
fn a_child_of_the_program_has_no_descriptor_of_ours() {
    let (service, first) = Service::start(&[]);
    assert_eq!(ask(&first.addresses[0], "descriptors"), bare());
    // A predecessor that is still there has more.
    let mut held = connect(&first.addresses[0]);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    send(first.pid, Signal::HUP);
    let second = service.ready();
    service.served_by(&first.addresses[0], second.pid);
    assert_eq!(ask(&first.addresses[0], "descriptors"), bare());
    assert_eq!(held.ask("descriptors"), bare());
}

/// Fails if a descriptor is open to other children between its making and its flag, or while the
/// successor is started.
#[test]
fn children_that_are_started_during_an_upgrade_have_none_either() {
    let (service, first) = Service::start(&[]);
    let address = first.addresses[0].clone();
    let before = connect(&address);
    std::thread::scope(|scope| {
        let mut storms = Vec::new();
        for mut talk in [before, connect(&address), connect(&address)] {
            storms.push(scope.spawn(move || talk.ask("storm")));
        }
        send(first.pid, Signal::HUP);
        let second = service.ready();
        service.served_by(&address, second.pid);
        storms.push(scope.spawn(|| ask(&address, "storm")));
        for storm in storms {
            assert_eq!(storm.join().unwrap(), bare());
        }
    });
}

/// The variables of its parent name descriptors that it does not have.
#[test]
fn a_service_that_a_service_starts_is_a_first_generation() {
    let (service, first) = Service::start(&[(server::LISTEN, "127.0.0.1:0")]);
    send(first.pid, Signal::HUP);
    let second = service.ready();
    service.served_by(&first.addresses[0], second.pid);
    let said = ask(&first.addresses[0], "grandchild");
    assert!(said.contains("generation=0 127.0.0.1:"), "{said}");
    assert!(!said.contains(&first.addresses[0]), "{said}");
    assert_eq!(who(&first.addresses[0]), second.pid);
}

#[test]
fn arguments_pass_as_they_are() {
    let dir = directory();
    let mut command = command(dir.path());
    command.args([
        "--skip",
        "",
        "--skip",
        "two  words",
        "--skip",
        "$HOME *\n\u{e9}",
    ]);
    let (service, first) = Service::run(dir, command);
    send(first.pid, Signal::HUP);
    let second = service.ready();
    let line = |pid: u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let of_second = line(second.pid);
    service.served_by(&first.addresses[0], second.pid);
    assert!(of_second.ends_with("two  words\0--skip\0$HOME *\n\u{e9}\0".as_bytes()));
    send(second.pid, Signal::HUP);
    assert_eq!(line(service.ready().pid), of_second);
}

fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap().trim().to_owned()
}

#[test]
fn signals_are_blocked_and_ignored_as_in_the_first() {
    let (service, first) = Service::start(&[]);
    let fields = ["SigBlk", "SigIgn", "SigCgt"];
    let of_first = fields.map(|field| status(first.pid, field));
    assert_eq!(of_first[0].trim_matches('0'), "", "something is blocked");
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(fields.map(|field| status(second.pid, field)), of_first);
}

/// Flags of an open file, as `/proc` has them.
const NONBLOCK: u32 = 0o4000;
const CLOEXEC: u32 = 0o2_000_000;

fn sockets_of(pid: u32) -> Vec<u32> {
    let mut flags = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let number = entry.file_name().into_string().unwrap();
        if !target.to_string_lossy().starts_with("socket:") || number.len() < 2 && &*number < "3" {
            continue;
        }
        let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix("flags:"));
        flags.extend(value.and_then(|value| u32::from_str_radix(value.trim(), 8).ok()));
    }
    flags
}

#[test]
fn sockets_are_nonblocking_and_close_on_exec_in_every_generation() {
    let (service, mut now) = Service::start(&[(server::UDP, "127.0.0.1:0")]);
    for _ in 0..3 {
        let sockets = sockets_of(now.pid);
        assert!(sockets.len() >= 2, "{sockets:?}");
        for flags in sockets {
            assert_eq!(
                flags & (NONBLOCK | CLOEXEC),
                NONBLOCK | CLOEXEC,
                "{flags:o}"
            );
        }
        send(now.pid, Signal::HUP);
        now = service.ready();
    }
}

/// A program that exists on this machine, to run a server in its place.
fn wrapped(path: &str, args: &[&str], dir: &Path) -> Option<Command> {
    let works = Command::new(path).args(args).arg("true").status();
    if !works.is_ok_and(|status| status.success()) {
        println!("skipped: {path} {args:?} cannot be run here");
        return None;
    }
    let mut command = Command::new(path);
    prepare(&mut command, dir);
    command.args(args).arg(dir.join("server")).args(ARGS);
    Some(command)
}

#[test]
fn no_new_privileges_are_needed() {
    let dir = directory();
    let Some(command) = wrapped("/usr/bin/setpriv", &["--no-new-privs"], dir.path()) else {
        return;
    };
    let (service, first) = Service::run(dir, command);
    assert_eq!(status(first.pid, "NoNewPrivs"), "1");
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(status(second.pid, "NoNewPrivs"), "1");
    service.served_by(&first.addresses[0], second.pid);
}

/// Fails if the first process of a container hands over: with its end all the others end.
#[test]
fn the_first_process_of_a_pid_namespace_refuses_to_hand_over() {
    let dir = directory();
    let args = ["--fork", "--pid", "--mount-proc"];
    let Some(command) = wrapped("/usr/bin/unshare", &args, dir.path()) else {
        return;
    };
    let (service, first) = Service::run(dir, command);
    assert_eq!(first.pid, 1);
    let answer = ask(&first.addresses[0], "upgrade");
    assert!(answer.contains("process 1"), "{answer}");
    let outer = service.child.id();
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let pid: u32 = children.trim().parse().unwrap();
    send(pid, Signal::HUP);
    service.line("hup done");
    assert_eq!(who(&first.addresses[0]), 1);
    send(pid, Signal::TERM);
    service.gone(pid);
}
