//! Addresses that a new release adds, removes, widens or narrows.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::Signal;

use super::{
    server,
    service::{PATIENCE, Ready, Service, command, connect, connect_unix, directory, send, who},
};

/// A service whose addresses are in a file; and for how long each generation stays behind.
fn start(listen: &str, probation: &str) -> (Service, Ready) {
    let dir = directory();
    let listen = listen.replace("DIR", &dir.path().display().to_string());
    fs::write(dir.path().join("listen"), listen).unwrap();
    let mut command = command(dir.path());
    command.env(server::PROBATION_MS, probation);
    Service::run(dir, command)
}

fn upgrade_to(service: &Service, old: &Ready, listen: &str) -> Ready {
    fs::write(service.path("listen"), listen).unwrap();
    send(old.pid, Signal::HUP);
    service.ready()
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

/// Connects all the time, and counts.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

#[derive(Debug, Default)]
struct Tally {
    served: u32,
    refused: u32,
    lost: Vec<String>,
}

impl Load {
    fn on(address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = || {
            let (stop, address) = (Arc::clone(&stop), address.to_owned());
            std::thread::spawn(move || {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    tally.once(&address);
                    // Enough to meet every instant, and not so much that ports run out.
                    std::thread::sleep(Duration::from_micros(300));
                }
                tally
            })
        };
        let threads = vec![thread(), thread()];
        Self { stop, threads }
    }

    fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads {
            let tally = thread.join().unwrap();
            all.served += tally.served;
            all.refused += tally.refused;
            all.lost.extend(tally.lost);
        }
        all
    }
}

impl Tally {
    fn once(&mut self, address: &str) {
        let mut stream = match TcpStream::connect(address) {
            Ok(stream) => stream,
            Err(err) if err.kind() == ErrorKind::ConnectionRefused => return self.refused += 1,
            Err(err) => return self.lost.push(format!("connect: {err}")),
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 16];
        let answered = stream
            .write_all(b"pid\n")
            .and_then(|()| stream.read(&mut answer));
        match answered {
            Ok(1..) => self.served += 1,
            Ok(0) => self.lost.push("end".to_owned()),
            Err(err) => self.lost.push(err.to_string()),
        }
    }
}

#[test]
fn an_address_is_added() {
    let (service, first) = start("127.0.0.1:0", "0");
    let second = upgrade_to(&service, &first, "127.0.0.1:0 more=127.0.0.1:0");
    assert_eq!(second.addresses[0], first.addresses[0]);
    service.gone(first.pid);
    assert_eq!(who(&second.addresses[1]), second.pid);
}

/// What is on its way when an address is given up is served; what comes later is refused. Nothing
/// is lost in between.
#[test]
fn an_address_is_removed_without_a_loss() {
    let (service, first) = start("a=127.0.0.1:0 b=127.0.0.1:0", "200");
    let (kept, removed) = (&first.addresses[0], &first.addresses[1]);
    let (on_kept, on_removed) = (Load::on(kept), Load::on(removed));
    let second = upgrade_to(&service, &first, "a=127.0.0.1:0");
    assert_eq!(second.addresses, first.addresses[..1]);
    service.logged("no longer heard");
    service.gone(first.pid);
    service.served_by(kept, second.pid);
    let (kept, removed) = (on_kept.end(), on_removed.end());
    assert!(kept.lost.is_empty() && kept.refused == 0, "{kept:?}");
    assert!(removed.lost.is_empty(), "{removed:?}");
    assert!(removed.served > 0 && removed.refused > 0, "{removed:?}");
}

#[test]
fn a_removed_unix_path_is_finished_as_well() {
    let (service, first) = start("unix:DIR/s 127.0.0.1:0", "200");
    let path = service.path("s");
    let second = upgrade_to(&service, &first, "127.0.0.1:0");
    // The successor serves, and this one is the predecessor's until its probation is over.
    let talk = connect_unix(&path).ask("pid");
    assert_eq!(talk, first.pid.to_string());
    service.gone(first.pid);
    service.wait_until("the file goes", || !path.exists());
    assert_eq!(who(&second.addresses[0]), second.pid);
}

/// At no instant is a connection to what both releases listen on refused or lost.
#[test]
fn an_address_is_widened_and_narrowed_without_a_loss() {
    for (from, to, both, outside) in [
        ("web=127.0.0.1", "web=0.0.0.0", "127.0.0.1", "127.0.0.2"),
        ("web=0.0.0.0", "web=127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("127.0.0.1", "0.0.0.0", "127.0.0.1", "127.0.0.2"),
        ("web=127.0.0.1", "web=[::]", "127.0.0.1", "[::1]"),
        ("web=0.0.0.0", "web=[::]", "127.0.0.1", "[::1]"),
        ("web=[::1]", "web=[::]", "[::1]", "127.0.0.1"),
    ] {
        let (service, first) = start(&format!("{from}:0"), "150");
        let port = port(&first.addresses[0]).to_owned();
        let widens = from.contains("127") || from.contains("::1") || to.contains("::");
        let load = Load::on(&format!("{both}:{port}"));
        let around = Load::on(&format!("{outside}:{port}"));
        let second = upgrade_to(&service, &first, &format!("{to}:{port}"));
        service.gone(first.pid);
        service.served_by(&format!("{both}:{port}"), second.pid);
        if widens {
            assert_eq!(who(&format!("{outside}:{port}")), second.pid, "{from} {to}");
        } else {
            let refused = TcpStream::connect(format!("{outside}:{port}")).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{from} {to}");
        }
        let (load, around) = (load.end(), around.end());
        assert!(
            load.lost.is_empty() && load.refused == 0,
            "{from} {to}: {load:?}"
        );
        assert!(load.served > 100, "{from} {to}: {load:?}");
        assert!(around.lost.is_empty(), "{from} {to}: {around:?}");
        // Once more, to what it was.
        let third = upgrade_to(&service, &second, &format!("{from}:{port}"));
        service.gone(second.pid);
        service.served_by(&format!("{both}:{port}"), third.pid);
    }
}

/// A name keeps its port when its host changes.
#[test]
fn port_0_stays_although_the_host_changes() {
    let (service, first) = start("web=127.0.0.1:0 other=127.0.0.1:0", "0");
    let second = upgrade_to(&service, &first, "web=0.0.0.0:0 other=127.0.0.1:0");
    assert_eq!(port(&second.addresses[0]), port(&first.addresses[0]));
    assert_eq!(second.addresses[1], first.addresses[1]);
    assert!(second.addresses[0].starts_with("0.0.0.0:"));
    service.gone(first.pid);
    service.served_by(&first.addresses[0], second.pid);
}

/// Until the commit nothing has changed: the new socket takes no connection, although it would be
/// the more exact one.
#[test]
fn a_failed_successor_has_changed_no_address() {
    for (from, to) in [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")] {
        let (service, first) = start(&format!("web={from}:0"), "0");
        let port = port(&first.addresses[0]).to_owned();
        let address = format!("127.0.0.1:{port}");
        let load = Load::on(&address);
        fs::write(service.path("listen"), format!("web={to}:{port}")).unwrap();
        service.fault("hang");
        send(first.pid, Signal::HUP);
        let hanging = service.line("hanging pid=").parse().unwrap();
        for _ in 0..50 {
            assert_eq!(who(&address), first.pid);
        }
        send(hanging, Signal::KILL);
        service.line("hup done");
        service.no_fault();
        let load = load.end();
        assert!(load.lost.is_empty() && load.refused == 0, "{load:?}");
        let second = upgrade_to(&service, &first, &format!("web={to}:{port}"));
        service.gone(first.pid);
        service.served_by(&address, second.pid);
    }
}

/// What cannot be bound fails the upgrade, and the predecessor serves on.
#[test]
fn an_address_that_cannot_be_had_changes_nothing() {
    let (service, first) = start("web=127.0.0.1:0", "0");
    let address = &first.addresses[0];
    let taken = TcpListener::bind(format!("127.0.0.2:{}", port(address))).unwrap();
    for wish in [
        format!("web=0.0.0.0:{}", port(address)),
        format!("web=127.0.0.1:0 more={}", taken.local_addr().unwrap()),
    ] {
        fs::write(service.path("listen"), wish).unwrap();
        let answer = connect(address).ask("upgrade");
        assert!(answer.starts_with("err"), "{answer}");
        service.logged("cannot listen on");
        assert_eq!(who(address), first.pid);
    }
    drop(taken);
    let wish = format!("web=0.0.0.0:{}", port(address));
    let second = upgrade_to(&service, &first, &wish);
    service.gone(first.pid);
    service.served_by(address, second.pid);
}

/// A predecessor that comes back within its probation has all its addresses again.
#[test]
fn a_predecessor_that_comes_back_has_its_addresses() {
    let (service, first) = start("a=127.0.0.1:0 b=127.0.0.1:0", "20000");
    let load = Load::on(&first.addresses[1]);
    let second = upgrade_to(&service, &first, "a=127.0.0.1:0");
    // Its own all the while.
    assert_eq!(who(&first.addresses[1]), first.pid);
    send(second.pid, Signal::KILL);
    service.logged("serving again");
    service.served_by(&first.addresses[0], first.pid);
    service.served_by(&first.addresses[1], first.pid);
    let load = load.end();
    assert!(load.lost.is_empty() && load.refused == 0, "{load:?}");
}

/// Under `CAP_NET_RAW` even after its probation, which is over at once here.
#[test]
fn a_predecessor_that_comes_back_late_hears_again_or_says_so() {
    let (service, first) = start("a=127.0.0.1:0 b=127.0.0.1:0", "0");
    let mut held = connect(&first.addresses[0]);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    let second = upgrade_to(&service, &first, "a=127.0.0.1:0");
    service.logged("no longer heard");
    send(second.pid, Signal::KILL);
    service.logged("serving again");
    service.served_by(&first.addresses[0], first.pid);
    service.wait_until("it hears again, or says so", || {
        TcpStream::connect(&first.addresses[1]).is_ok()
            || service.log().contains("cannot be heard again")
    });
    assert_eq!(held.ask("phase"), "running");
}

#[test]
fn abstract_names_and_ports_go_on() {
    let name = tempfile::tempdir().unwrap();
    let name = name
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let (service, first) = start(&format!("127.0.0.1:0 unix:@{name} [::1]:0 x=[::1]:0"), "0");
    let listen = fs::read_to_string(service.path("listen")).unwrap();
    let second = upgrade_to(&service, &first, &listen);
    assert_eq!(second.addresses, first.addresses);
    assert_eq!(first.addresses[1], format!("unix:@{name}"));
    service.gone(first.pid);
    service.served_by(&second.addresses[2], second.pid);
}

#[test]
fn a_path_that_is_anothers_since_an_upgrade_is_left() {
    let (service, first) = start("unix:DIR/s 127.0.0.1:0", "0");
    let listen = fs::read_to_string(service.path("listen")).unwrap();
    let path = service.path("s");
    let second = upgrade_to(&service, &first, &listen);
    service.gone(first.pid);
    fs::rename(&path, service.path("moved")).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    // Neither who no longer listens there nor who is the last removes it.
    let third = upgrade_to(&service, &second, "127.0.0.1:0");
    service.gone(second.pid);
    assert!(path.exists());
    send(third.pid, Signal::TERM);
    service.gone(third.pid);
    assert!(path.exists());
}
