//! As many sockets as a process may have, and more.

use std::{fs, process::Command};

use rustix::process::Signal;

use super::service::{Service, command, directory, prepare, send, who};

/// Many, each by its own name. Two descriptors each, in each process.
#[test]
fn thousands_of_sockets_pass() {
    let wanted = 4000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(1 << 20);
    let sockets = wanted.min(most.saturating_sub(200) / 2);
    if sockets < wanted {
        eprintln!("only {sockets}: the limit on open files is {most}");
    }
    let dir = directory();
    let listen: Vec<_> = (0..sockets).map(|i| format!("s{i}=127.0.0.1:0")).collect();
    fs::write(dir.path().join("listen"), listen.join(" ")).unwrap();
    let server = command(dir.path());
    let mut command = Command::new("sh");
    prepare(&mut command, dir.path());
    command
        .args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")])
        .arg(server.get_program())
        .args(server.get_args());
    let (service, first) = Service::run(dir, command);
    assert_eq!(first.addresses.len() as u64, sockets);
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(second.addresses, first.addresses);
    service.gone(first.pid);
    for address in second.addresses.iter().step_by(97) {
        assert_eq!(who(address), second.pid);
    }
}

#[test]
fn a_limit_on_open_files_that_is_too_low_is_named() {
    let dir = directory();
    let listen: Vec<_> = (0..60).map(|i| format!("s{i}=127.0.0.1:0")).collect();
    fs::write(dir.path().join("listen"), listen.join(" ")).unwrap();
    let server = command(dir.path());
    let mut command = Command::new("sh");
    prepare(&mut command, dir.path());
    command
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(server.get_program())
        .args(server.get_args());
    assert_eq!(command.status().unwrap().code(), Some(4));
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
    assert!(log.contains("raise the limit on open files"), "{log}");
}
