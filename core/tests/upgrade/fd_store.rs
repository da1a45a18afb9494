//! Sockets that the service manager keeps: what the kernel has queued outlives a process that was
//! killed.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use rustix::process::Signal;

use super::{
    manager::Manager,
    server::{LISTEN, UDP},
    service::{PATIENCE, Service, connect_unix, send, state, who},
};

fn manager(listen: &str) -> Manager {
    let mut manager = Manager::new();
    manager.env = vec![(LISTEN, listen.to_owned())];
    manager
}

/// A client whose question waits in the kernel.
fn queued(address: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"pid\n").unwrap();
    BufReader::new(stream)
}

fn answer(client: &mut BufReader<TcpStream>) -> u32 {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line.trim().parse().unwrap_or_else(|_| panic!("{line:?}"))
}

fn kill(service: &mut Service, pid: u32) {
    send(pid, Signal::KILL);
    service.gone(pid);
}

#[test]
fn what_was_queued_when_the_process_was_killed_is_served_by_the_next() {
    let manager = manager("127.0.0.1:0");
    let (mut service, first) = manager.start();
    manager.hears(&["READY=1"]);
    assert_eq!(manager.stored(), ["handover.127.0.0.1%3A0"]);
    let address = &first.addresses[0];

    send(first.pid, Signal::STOP);
    service.wait_until("the stop", || state(first.pid) == Some('T'));
    let mut clients: Vec<_> = (0..50).map(|_| queued(address)).collect();
    kill(&mut service, first.pid);
    // Nobody is there at all.
    clients.extend((0..10).map(|_| queued(address)));

    let second = manager.restart(&mut service);
    assert_eq!(
        (second.generation, &second.addresses),
        (0, &first.addresses)
    );
    for client in &mut clients {
        assert_eq!(answer(client), second.pid);
    }
    // Kept once, and for the next time as well.
    assert_eq!(manager.stored().len(), 1);
    kill(&mut service, second.pid);
    let mut late = queued(address);
    let third = manager.restart(&mut service);
    assert_eq!(answer(&mut late), third.pid);
}

#[test]
fn the_store_follows_an_upgrade() {
    let manager = manager("a=127.0.0.1:0 b=127.0.0.1:0");
    let (mut service, first) = manager.start();
    manager.hears(&["READY=1"]);
    assert_eq!(manager.stored(), ["handover.a", "handover.b"]);
    let [a, b] = &first.addresses[..] else {
        panic!()
    };

    // Another name for the first, no second, and a new one.
    fs::write(service.path("listen"), format!("x={a} c=127.0.0.1:0")).unwrap();
    let mut held = super::service::connect(a);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(&second.addresses[0], a);
    manager.hears(&[&format!("MAINPID={}", second.pid)]);
    service.served_by(a, second.pid);
    // The predecessor may come back, so it is left what it needs.
    assert_eq!(manager.stored(), ["handover.a", "handover.b"]);
    drop(held);
    assert!(service.first_ended().success());
    let expected = ["handover.c", "handover.x"];
    service.wait_until("the store", || manager.stored() == expected);
    assert!(TcpStream::connect(b).is_err(), "nobody serves it");

    // An upgrade that changes nothing changes nothing there.
    let before = manager.all().len();
    send(second.pid, Signal::HUP);
    let third = service.ready();
    service.gone(second.pid);
    service.served_by(a, third.pid);
    let all = manager.all();
    let touched = all[before..]
        .iter()
        .any(|said| said.text.contains("FDSTORE"));
    assert!(!touched, "{:#?}", &all[before..]);

    kill(&mut service, third.pid);
    let mut clients: Vec<_> = third.addresses.iter().map(|at| queued(at)).collect();
    let fourth = manager.restart(&mut service);
    assert_eq!(fourth.addresses, third.addresses);
    for client in &mut clients {
        assert_eq!(answer(client), fourth.pid);
    }
}

/// Fails if an heir is not known to be alone: the store would keep what its predecessor had, which is
/// not what the next process after a crash is to have.
#[test]
fn the_store_follows_an_heir() {
    let manager = manager("a=127.0.0.1:0 b=127.0.0.1:0");
    let (mut service, first) = manager.start();
    manager.hears(&["READY=1"]);
    let a = &first.addresses[0];
    fs::write(service.path("listen"), format!("a={a} c=127.0.0.1:0")).unwrap();
    let mut held = super::service::connect(a);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    send(first.pid, Signal::HUP);
    let second = service.ready();
    manager.hears(&[&format!("MAINPID={}", second.pid)]);
    assert_eq!(manager.stored(), ["handover.a", "handover.b"]);
    kill(&mut service, first.pid);
    let expected = ["handover.a", "handover.c"];
    service.wait_until("the store", || manager.stored() == expected);
    service.served_by(a, second.pid);
}

#[test]
fn what_is_not_used_any_more_leaves_the_store() {
    let manager = manager("a=127.0.0.1:0 b=127.0.0.1:0");
    let (mut service, first) = manager.start();
    kill(&mut service, first.pid);
    fs::write(service.path("listen"), "a=127.0.0.1:0").unwrap();
    let second = manager.restart(&mut service);
    assert_eq!(second.addresses, first.addresses[..1]);
    service.wait_until("the store", || manager.stored() == ["handover.a"]);
    assert!(TcpStream::connect(&first.addresses[1]).is_err());
}

#[test]
fn a_stop_takes_everything_out_before_the_drain_is_over() {
    let manager = manager("127.0.0.1:0");
    let (mut service, first) = manager.start();
    let mut held = super::service::connect(&first.addresses[0]);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    manager.stop(PATIENCE);
    service.wait_until("the store", || manager.stored().is_empty());
    // Whoever comes now is refused, and does not wait for nobody.
    service.wait_until("a refusal", || {
        TcpStream::connect(&first.addresses[0]).is_err()
    });
    drop(held);
    assert!(service.first_ended().success());
}

#[test]
fn without_room_nothing_is_stored() {
    let mut manager = manager("a=127.0.0.1:0 b=127.0.0.1:0");
    manager.room = 0;
    let (_service, _) = manager.start();
    manager.hears(&["READY=1"]);
    manager
        .all()
        .iter()
        .for_each(|said| assert!(!said.text.contains("FDSTORE"), "{said:?}"));

    manager.room = 1;
    let (service, _) = manager.start();
    assert_eq!(manager.stored(), ["handover.a"]);
    service.logged("raise FileDescriptorStoreMax=");
}

#[test]
fn a_unix_socket_keeps_its_file_and_a_datagram_its_port() {
    let mut manager = Manager::new();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("app.sock");
    manager.env = vec![
        (LISTEN, format!("unix:{}", path.display())),
        (UDP, "dns=127.0.0.1:0".to_owned()),
    ];
    let (mut service, first) = manager.start();
    assert_eq!(manager.stored().len(), 2);
    kill(&mut service, first.pid);
    let mut waiting = UnixStream::connect(&path).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.write_all(b"pid\n").unwrap();
    let udp = first.addresses[1].strip_prefix("udp:").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"who", udp).unwrap();

    let second = manager.restart(&mut service);
    assert_eq!(second.addresses, first.addresses);
    let mut line = String::new();
    BufReader::new(waiting).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), second.pid.to_string());
    let mut bytes = [0; 16];
    let length = client.recv(&mut bytes).unwrap();
    assert_eq!(bytes[..length], *second.pid.to_string().as_bytes());

    // It is still the service's own file, so the last generation removes it.
    assert_eq!(connect_unix(&path).ask("pid"), second.pid.to_string());
    manager.stop(PATIENCE);
    service.gone(second.pid);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_a_unit_passes_is_not_stored_and_goes_before_one_that_is() {
    let mut manager = manager("web=127.0.0.1:1 api=127.0.0.1:0");
    let unit = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unit.local_addr().unwrap().to_string();
    let old = TcpListener::bind("127.0.0.1:0").unwrap();
    let forgotten = old.local_addr().unwrap();
    // The same socket under two names; and another one by the name of the unit's.
    manager.store("handover.other", unit.try_clone().unwrap().into());
    manager.store("handover.web", old.into());
    manager.activated = vec![("web".to_owned(), unit.into())];
    let (service, first) = manager.start();
    assert_eq!(first.addresses[0], address);
    service.wait_until("the store", || manager.stored() == ["handover.api"]);
    assert_eq!(who(&address), first.pid);
    assert!(TcpStream::connect(forgotten).is_err());
}

#[test]
fn what_is_of_no_use_in_the_store_does_not_stop_a_start() {
    let manager = manager("web=127.0.0.1:0");
    let file = tempfile::tempfile().unwrap();
    let socket = UnixStream::pair().unwrap().0;
    manager.store("handover.web", OwnedFd::from(file));
    manager.store("handover.api", OwnedFd::from(socket));
    let (mut service, first) = manager.start();
    assert_eq!(who(&first.addresses[0]), first.pid);
    service.wait_until("the store", || manager.stored() == ["handover.web"]);
    service.logged("a descriptor that was kept is of no use");
    // And what is there by now is the listener.
    kill(&mut service, first.pid);
    let second = manager.restart(&mut service);
    assert_eq!(second.addresses, first.addresses);
}

/// Both generations are killed while the older one is on its way out of an address: whoever wants
/// that address again gets a socket that hears.
#[test]
#[cfg(target_os = "linux")]
fn a_socket_that_was_made_deaf_does_not_come_back() {
    let manager = manager("a=127.0.0.1:0 b=127.0.0.1:0");
    let (mut service, first) = manager.start();
    let [a, b] = &first.addresses[..] else {
        panic!()
    };
    fs::write(service.path("listen"), format!("a={a}")).unwrap();
    let mut held = super::service::connect(a);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    send(first.pid, Signal::HUP);
    let second = service.ready();
    service.wait_until("deaf ears", || TcpStream::connect(b).is_err());
    assert_eq!(manager.stored(), ["handover.a", "handover.b"]);
    // Both die at once: it would serve again, and hear.
    send(first.pid, Signal::STOP);
    kill(&mut service, second.pid);
    kill(&mut service, first.pid);
    fs::write(service.path("listen"), format!("a={a} b=127.0.0.1:0")).unwrap();
    let third = manager.restart(&mut service);
    assert_eq!(third.addresses[0], *a);
    assert_eq!(who(&third.addresses[1]), third.pid);
    service.logged("was given up by an older generation");
}
