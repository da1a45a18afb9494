//! Sockets of every kind over an upgrade.

use std::{fs, net::UdpSocket, os::unix::fs::MetadataExt};

use rustix::process::Signal;

use super::{
    server,
    service::{PATIENCE, Service, command, connect_unix, directory, send},
};

#[test]
fn a_unix_path_stays_and_goes_with_the_last() {
    let dir = directory();
    let path = dir.path().join("app.sock");
    let mut command = command(dir.path());
    command.env(server::LISTEN, format!("unix:{}", path.display()));
    let (service, first) = Service::run(dir, command);
    assert_eq!(connect_unix(&path).ask("pid"), first.pid.to_string());
    let inode = fs::symlink_metadata(&path).unwrap().ino();

    send(first.pid, Signal::HUP);
    let second = service.ready();
    service.gone(first.pid);
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode);
    assert_eq!(connect_unix(&path).ask("pid"), second.pid.to_string());
    send(second.pid, Signal::TERM);
    service.gone(second.pid);
    assert!(!path.exists());
}

/// Fails if a successor that ends in disorder takes the socket file with it.
#[test]
fn a_failed_successor_leaves_the_unix_path() {
    for fault in ["error", "panic", "error-after-ready"] {
        let dir = directory();
        let path = dir.path().join("app.sock");
        let mut command = command(dir.path());
        command.env(
            server::LISTEN,
            format!("unix:{} 127.0.0.1:0", path.display()),
        );
        let (service, first) = Service::run(dir, command);
        let mut held = connect_unix(&path);
        assert_eq!(held.ask("pid"), first.pid.to_string());
        service.fault(fault);
        send(first.pid, Signal::HUP);
        service.line("hup done");
        if fault == "error-after-ready" {
            service.ready();
            // It may have been gone before the predecessor had read that it serves.
            service.wait_until("the predecessor serves", || {
                service.log().contains("serving again") || service.log().contains("serving on")
            });
        }
        assert_eq!(held.ask("phase"), "running");
        assert_eq!(connect_unix(&path).ask("pid"), first.pid.to_string());
        assert_eq!(service.pid_file(), Some(first.pid));
        service.no_fault();
        drop(held);
        send(first.pid, Signal::HUP);
        let second = service.ready();
        service.gone(first.pid);
        send(second.pid, Signal::TERM);
        service.gone(second.pid);
        assert!(!path.exists(), "{fault}: {}", service.log());
    }
}

/// A path that the next release no longer listens on goes once the predecessor has gone.
#[test]
fn an_unused_unix_path_goes_with_the_predecessor() {
    let dir = directory();
    let path = dir.path().join("old.sock");
    fs::write(
        dir.path().join("listen"),
        format!("unix:{} 127.0.0.1:0", path.display()),
    )
    .unwrap();
    let command = command(dir.path());
    let (service, first) = Service::run(dir, command);
    let mut held = connect_unix(&path);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    fs::write(service.path("listen"), "127.0.0.1:0").unwrap();
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(second.addresses, first.addresses[1..]);
    assert!(path.exists());
    drop(held);
    service.gone(first.pid);
    service.wait_until("the file goes", || !path.exists());
}

#[test]
fn a_unix_path_that_is_anothers_by_now_is_left() {
    let dir = directory();
    let path = dir.path().join("app.sock");
    let mut command = command(dir.path());
    command
        .env(server::LISTEN, "unix:app.sock")
        .current_dir(dir.path())
        .env("PWD", dir.path());
    let (service, first) = Service::run(dir, command);
    assert!(
        path.exists(),
        "a relative path is taken from the start directory"
    );
    fs::rename(&path, service.path("moved")).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    send(first.pid, Signal::TERM);
    service.gone(first.pid);
    assert!(path.exists());
}

#[test]
fn a_live_unix_path_is_refused_and_a_stale_one_replaced() {
    let dir = directory();
    let path = dir.path().join("app.sock");
    let live = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listen = format!("unix:{}", path.display());
    let mut refused = command(dir.path());
    let status = refused.env(server::LISTEN, &listen).status().unwrap();
    assert_eq!(status.code(), Some(4));
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
    assert!(log.contains(&format!("cannot listen on {listen}")), "{log}");
    drop(live);
    let mut command = command(dir.path());
    command.env(server::LISTEN, &listen);
    let (_service, first) = Service::run(dir, command);
    assert_eq!(connect_unix(&path).ask("pid"), first.pid.to_string());
}

#[test]
fn several_listeners_by_name_and_number() {
    let env = [(
        server::LISTEN,
        "127.0.0.1:0 127.0.0.1:0 web=127.0.0.1:0 [::1]:0",
    )];
    let (service, first) = Service::start(&env);
    assert_eq!(first.addresses.len(), 4);
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(second.addresses, first.addresses);
    for address in &second.addresses {
        service.served_by(address, second.pid);
    }
}

#[test]
fn a_udp_socket_is_handed_over() {
    let (service, first) = Service::start(&[(server::UDP, "127.0.0.1:0")]);
    let address = first.addresses[1].strip_prefix("udp:").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(address).unwrap();
    let ask = || {
        client.send(b"who").unwrap();
        let mut buffer = [0; 16];
        let length = client.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(ask(), first.pid.to_string());
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(second.addresses, first.addresses);
    service.gone(first.pid);
    assert_eq!(ask(), second.pid.to_string());
}
