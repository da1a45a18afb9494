//! What other programs leave in the environment.

use std::{fs, net::TcpListener, os::fd::OwnedFd, process::Command};

use rustix::process::Signal;

use super::{
    server,
    service::{ARGS, Service, command, directory, prepare, send, who},
};

#[test]
fn a_mangled_channel_is_an_error_that_names_it() {
    for value in ["", "x", "1:3", "1:-3:7", "2:3:7", "1:3:7:9"] {
        let dir = directory();
        let status = command(dir.path())
            .env("HANDOVER_CHANNEL", value)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(4), "{value:?}");
        let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
        assert!(
            log.contains(&format!("HANDOVER_CHANNEL={value:?}")),
            "{log}"
        );
    }
}

#[test]
fn a_channel_that_is_anothers_is_left_alone() {
    for value in ["1:99999:1", "1:0:1", "1:2:1"] {
        let (_service, first) = Service::start(&[("HANDOVER_CHANNEL", value)]);
        assert_eq!(first.generation, 0);
        assert_eq!(who(&first.addresses[0]), first.pid);
    }
}

/// Runs a server in a shell's place, which sets up what only a shell can: its own pid in a variable
/// and a descriptor under a number.
fn by_shell(dir: &std::path::Path, script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    prepare(&mut command, dir);
    let script = format!("{script} exec \"$0\" \"$@\"");
    command
        .args(["-c", &script])
        .arg(dir.join("server"))
        .args(ARGS);
    command
}

#[test]
fn a_socket_of_systemd_is_adopted_and_handed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dir = directory();
    let names = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web";
    let script = format!("export {names}; exec 3<&0 </dev/null;");
    let mut command = by_shell(dir.path(), &script);
    // By the administrator's name, although the address that the program asks for is another.
    command
        .env(server::LISTEN, "web=0.0.0.0:1")
        .stdin(OwnedFd::from(listener));
    let (service, first) = Service::run(dir, command);
    assert_eq!(first.addresses.concat(), address);
    assert_eq!(who(&address), first.pid);
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(second.addresses.concat(), address);
    service.served_by(&address, second.pid);
}

#[test]
fn a_socket_of_server_starter_is_adopted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dir = directory();
    let mut command = by_shell(dir.path(), "exec 7<&0 </dev/null;");
    command
        .env("SERVER_STARTER_PORT", format!("{address}=7"))
        .env(server::LISTEN, &address)
        .stdin(OwnedFd::from(listener));
    let (_service, first) = Service::run(dir, command);
    assert_eq!(who(&address), first.pid);
}

#[test]
fn what_is_not_a_socket_is_named() {
    for (script, expected) in [
        (
            "exec 3</dev/null;",
            "descriptor 3 of LISTEN_FDS: it is a character device, not a socket",
        ),
        (
            "exec 3</etc/passwd;",
            "descriptor 3 of LISTEN_FDS: it is a regular file, not a socket",
        ),
        (
            "unset LISTEN_PID; export EINHORN_FDS=250;",
            "descriptor 250 of EINHORN_FDS: it is not open",
        ),
    ] {
        let dir = directory();
        let script = format!("export LISTEN_PID=$$ LISTEN_FDS=1; {script}");
        let status = by_shell(dir.path(), &script).status().unwrap();
        assert_eq!(status.code(), Some(4), "{script}");
        let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
        assert!(log.contains(expected), "{expected} is not in {log}");
    }
}

#[test]
fn a_socket_that_does_not_listen_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let dir = directory();
    let mut command = by_shell(dir.path(), "export EINHORN_FDS=5; exec 5<&0 </dev/null;");
    let status = command.stdin(OwnedFd::from(stream)).status().unwrap();
    assert_eq!(status.code(), Some(4));
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
    assert!(
        log.contains("descriptor 5 of EINHORN_FDS: it is a stream socket that does not listen"),
        "{log}"
    );
}

#[test]
fn a_pid_file_of_a_living_process_is_respected() {
    let (service, first) = Service::start(&[]);
    let status = command(service.dir.path()).status().unwrap();
    assert_eq!(status.code(), Some(4));
    let log = service.log();
    assert!(
        log.contains(&format!("belongs to process {}, which is alive", first.pid)),
        "{log}"
    );
    assert_eq!(service.pid_file(), Some(first.pid));
    assert_eq!(who(&first.addresses[0]), first.pid);
}

#[test]
fn a_stale_pid_file_is_replaced() {
    let dir = directory();
    fs::write(dir.path().join("pid"), "1\n").unwrap();
    let command = command(dir.path());
    let (service, first) = Service::run(dir, command);
    assert_eq!(service.pid_file(), Some(first.pid));
}
