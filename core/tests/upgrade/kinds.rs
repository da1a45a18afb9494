//! Unix sockets of messages, files and connections over an upgrade.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::UnixDatagram,
        },
    },
    path::Path,
};

use rustix::{net, process::Signal};

use super::service::{PATIENCE, Ready, Service, command, directory, send};

/// A client of a seqpacket socket.
struct Packets(OwnedFd);

impl Packets {
    fn connect(path: &Path) -> Self {
        let fd = net::socket(net::AddressFamily::UNIX, net::SocketType::SEQPACKET, None).unwrap();
        net::sockopt::set_socket_timeout(&fd, net::sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
        net::connect(&fd, &net::SocketAddrUnix::new(path).unwrap()).unwrap();
        Self(fd)
    }

    fn send(&self, text: &str) {
        net::send(&self.0, text.as_bytes(), net::SendFlags::empty()).unwrap();
    }

    fn recv(&self) -> String {
        let mut bytes = [0; 64];
        let (length, _) = net::recv(&self.0, &mut bytes, net::RecvFlags::empty()).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }
}

/// A service with a file that says what it has.
fn service(file: &str, address: impl FnOnce(&Path) -> String) -> (Service, Ready) {
    let dir = directory();
    fs::write(dir.path().join(file), address(dir.path())).unwrap();
    let command = command(dir.path());
    Service::run(dir, command)
}

fn unix(dir: &Path) -> String {
    format!("unix:{}/s", dir.display())
}

#[test]
fn a_seqpacket_socket_is_handed_over_with_its_queue() {
    let (service, first) = service("seqpacket", unix);
    let path = service.path("s");
    let held = Packets::connect(&path);
    // Two messages are two messages.
    held.send("a");
    held.send("b");
    assert_eq!(held.recv(), format!("a {}", first.pid));
    assert_eq!(held.recv(), format!("b {}", first.pid));
    let inode = fs::metadata(&path).unwrap().ino();
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(second.addresses, first.addresses);
    held.send("c");
    assert_eq!(held.recv(), format!("c {}", first.pid), "it still drains");
    service.wait_until("the successor serves", || {
        let new = Packets::connect(&path);
        new.send("d");
        new.recv() == format!("d {}", second.pid)
    });
    drop(held);
    service.gone(first.pid);
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    send(second.pid, Signal::TERM);
    service.gone(second.pid);
    assert!(!path.exists());
}

/// Fails if a successor that starts up takes connections that it cannot serve.
#[test]
fn a_seqpacket_socket_is_held_back_until_the_commit() {
    let (service, first) = service("seqpacket", |_| "unix:@".to_owned() + &unique());
    let name = first.addresses[1].strip_prefix("seqpacket:unix:@").unwrap();
    let connect = || {
        let fd = net::socket(net::AddressFamily::UNIX, net::SocketType::SEQPACKET, None).unwrap();
        let address = net::SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        net::connect(&fd, &address).unwrap();
        Packets(fd)
    };
    service.fault("hang");
    send(first.pid, Signal::HUP);
    let hanging = service.line("hanging pid=");
    for _ in 0..20 {
        let client = connect();
        client.send("x");
        assert_eq!(client.recv(), format!("x {}", first.pid));
    }
    service.no_fault();
    let second = service.ready();
    assert_eq!(hanging, second.pid.to_string());
}

fn unique() -> String {
    let dir = tempfile::tempdir().unwrap();
    dir.path().file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_datagram_socket_is_handed_over_with_what_waits_in_it() {
    let (service, first) = service("datagram", unix);
    let path = service.path("s");
    let client = UnixDatagram::bind(service.path("client")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let receive = || {
        let mut bytes = [0; 64];
        let length = client.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    client.send_to(b"a", &path).unwrap();
    assert_eq!(receive(), format!("a {}", first.pid));
    send(first.pid, Signal::HUP);
    // All the while, one at a time: none may be lost.
    let mut by_second = 0;
    while by_second < 20 {
        client.send_to(b"b", &path).unwrap();
        by_second += u32::from(receive() != format!("b {}", first.pid));
    }
    let second = service.ready();
    service.gone(first.pid);
    client.send_to(b"c", &path).unwrap();
    assert_eq!(receive(), format!("c {}", second.pid));
    send(second.pid, Signal::TERM);
    service.gone(second.pid);
    assert!(!path.exists());
}

/// A release that no longer has a socket of messages removes its file, once the predecessor has
/// gone.
#[test]
fn unused_sockets_of_messages_are_removed() {
    for kind in ["seqpacket", "datagram"] {
        let (service, first) = service(kind, unix);
        fs::remove_file(service.path(kind)).unwrap();
        send(first.pid, Signal::HUP);
        let second = service.ready();
        assert_eq!(second.addresses, first.addresses[..1]);
        service.gone(first.pid);
        service.wait_until("the file goes", || !service.path("s").exists());
    }
}

#[test]
fn a_socket_file_has_the_mode_that_is_asked_for() {
    for kind in ["seqpacket", "datagram"] {
        let (service, _) = service(kind, |dir| {
            fs::write(dir.join("options"), "mode=620").unwrap();
            unix(dir)
        });
        let mode = fs::metadata(service.path("s"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o620, "{kind}");
    }
}

#[test]
fn a_file_goes_from_generation_to_generation() {
    let (service, first) = service("log", |_| "keep".to_owned());
    let mut pid = first.pid;
    for _ in 0..2 {
        send(pid, Signal::HUP);
        let next = service.ready().pid;
        service.gone(pid);
        pid = next;
    }
    for all in ["0;", "0;1;", "0;1;2;"] {
        assert_eq!(service.line("log "), all);
    }
}

/// What was kept and is not any more does not get to the successor, and what it does not take is
/// closed there.
#[test]
fn a_file_may_be_withdrawn_replaced_or_left() {
    for what in ["withdraw", "replace", "untaken"] {
        let (service, first) = service("log", |_| match what {
            "untaken" => "keep".to_owned(),
            _ => what.to_owned(),
        });
        let held = super::service::connect(&first.addresses[0]);
        if what == "untaken" {
            fs::remove_file(service.path("log")).unwrap();
        }
        send(first.pid, Signal::HUP);
        match what {
            "withdraw" => drop(service.line("no log")),
            "replace" => {
                assert_eq!(service.line("log "), "0;");
                assert_eq!(service.line("log "), "other;1;");
            }
            _ => {
                let log = || service.log();
                service.wait_until("it is closed", || {
                    log().contains("closed what the predecessor kept and nobody took")
                });
            }
        }
        let second = service.ready();
        drop(held);
        service.gone(first.pid);
        assert!(super::service::alive(second.pid));
    }
}

#[test]
fn a_connection_goes_from_generation_to_generation() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (stream, _) = upstream.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream);
        for generation in 0..3 {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, format!("generation {generation}\n"));
            reader.get_mut().write_all(b"ok").unwrap();
        }
    });
    let (service, first) = service("upstream", |_| address);
    let mut pid = first.pid;
    for _ in 0..2 {
        send(pid, Signal::HUP);
        let next = service.ready().pid;
        service.gone(pid);
        pid = next;
    }
    server.join().unwrap();
}
