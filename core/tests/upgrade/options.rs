//! Options of sockets and permissions of their files over an upgrade.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use rustix::process::Signal;

use super::{
    server,
    service::{Ready, Service, command, connect_unix, directory, send},
};

fn start(listen: &str, options: &str) -> (Service, Ready) {
    let dir = directory();
    fs::write(dir.path().join("options"), options).unwrap();
    let listen = listen.replace("DIR", &dir.path().display().to_string());
    let mut command = command(dir.path());
    command.env(server::LISTEN, listen);
    Service::run(dir, command)
}

fn upgrade(service: &Service, old: &Ready) -> Ready {
    send(old.pid, Signal::HUP);
    let new = service.ready();
    service.gone(old.pid);
    new
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What the kernel says of a listener: its queue's limit is the second number.
fn backlog(address: &str) -> u32 {
    let port = address.rsplit_once(':').unwrap().1;
    let out = std::process::Command::new("ss")
        .args(["-Hltn", &format!("sport = :{port}")])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.split_ascii_whitespace()
        .nth(2)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_backlog_is_set_again() {
    if std::process::Command::new("ss").arg("-V").output().is_err() {
        eprintln!("skipped: there is no ss");
        return;
    }
    let (service, first) = start("127.0.0.1:0", "backlog=7");
    assert_eq!(backlog(&first.addresses[0]), 7);
    fs::write(service.path("options"), "backlog=9").unwrap();
    let second = upgrade(&service, &first);
    assert_eq!(second.addresses, first.addresses);
    assert_eq!(backlog(&first.addresses[0]), 9);
}

#[test]
fn what_is_fixed_since_the_bind_is_reported() {
    let (service, first) = start("web=[::]:0", "v6only=false");
    assert!(!service.log().contains("not as it was asked"));
    fs::write(service.path("options"), "v6only=true").unwrap();
    send(first.pid, Signal::HUP);
    let said = service.line("difference ");
    assert_eq!(said, "IPv6 only: asked for true, found false");
    let second = service.ready();
    assert_eq!(second.addresses, first.addresses);
    let log = service.log();
    let warning = log
        .lines()
        .find(|line| line.contains("not as it was asked"));
    let warning = warning.expect("a warning");
    for part in ["WARN", "web", "IPv6 only", "true", "false"] {
        assert!(warning.contains(part), "{warning}");
    }
}

#[test]
fn a_dual_stack_socket_serves_both_and_one_of_ipv6_does_not() {
    let (service, first) = start("[::]:0", "v6only=false");
    let four = first.addresses[0].replace("[::]", "127.0.0.1");
    let six = first.addresses[0].replace("[::]", "[::1]");
    service.served_by(&four, first.pid);
    service.served_by(&six, first.pid);
    let second = upgrade(&service, &first);
    service.served_by(&four, second.pid);
    service.served_by(&six, second.pid);

    // That the port is free in IPv4 shows it. Another program of this machine may happen to have it
    // there, but not each time.
    let leaves_ipv4_alone = (0..50).any(|_| {
        let (service, first) = start("[::]:0", "v6only=true");
        service.served_by(&first.addresses[0].replace("[::]", "[::1]"), first.pid);
        std::net::TcpListener::bind(first.addresses[0].replace("[::]", "127.0.0.1")).is_ok()
    });
    assert!(leaves_ipv4_alone);
}

/// A person's hand is respected, a new release's wish is fulfilled.
#[test]
fn permissions_are_those_last_asked_for_by_whomever() {
    let (service, first) = start("unix:DIR/s", "mode=660");
    let path = service.path("s");
    assert_eq!(mode(&path), 0o660);
    let inode = fs::metadata(&path).unwrap().ino();

    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let second = upgrade(&service, &first);
    assert_eq!(mode(&path), 0o600, "changed by a person");
    assert!(service.log().contains("not as it was asked"));

    fs::write(service.path("options"), "mode=666").unwrap();
    let third = upgrade(&service, &second);
    assert_eq!(mode(&path), 0o666, "asked for by a new release");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);

    fs::remove_file(service.path("options")).unwrap();
    let fourth = upgrade(&service, &third);
    assert_eq!(mode(&path), 0o666, "not asked for");
    assert_eq!(connect_unix(&path).ask("pid"), fourth.pid.to_string());
}

#[test]
fn an_owner_that_cannot_be_had_is_an_error_and_leaves_no_file() {
    if !rustix::process::geteuid().is_root() {
        let dir = directory();
        fs::write(dir.path().join("options"), "group=0").unwrap();
        let mut command = command(dir.path());
        let path = dir.path().join("s");
        let listen = format!("unix:{}", path.display());
        assert_eq!(
            command.env(server::LISTEN, listen).status().unwrap().code(),
            Some(4)
        );
        assert!(!path.exists());
        return;
    }
    let (service, first) = start("unix:DIR/s", "mode=660 group=33");
    let path = service.path("s");
    assert_eq!(
        (fs::metadata(&path).unwrap().gid(), mode(&path)),
        (33, 0o660)
    );
    upgrade(&service, &first);
    assert_eq!(
        (fs::metadata(&path).unwrap().gid(), mode(&path)),
        (33, 0o660)
    );
}
