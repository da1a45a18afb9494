//! The end of a service.

use std::net::TcpStream;

use rustix::process::Signal;

use super::service::{Service, connect, send};

#[test]
fn told_to_stop_it_drains_and_accepts_no_more() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let (mut service, first) = Service::start(&[]);
        let mut held = connect(&first.addresses[0]);
        assert_eq!(held.ask("pid"), first.pid.to_string());
        send(first.pid, signal);
        service.wait_until("the drain", || held.ask("phase") == "draining");
        // Fails if the generation keeps its duplicate: clients would queue for nobody.
        service.wait_until("refused", || {
            TcpStream::connect(&first.addresses[0]).is_err()
        });
        send(first.pid, Signal::HUP);
        service.line("hup done");
        assert!(held.ask("upgrade").contains("Draining"));
        drop(held);
        assert!(service.first_ended().success());
        assert_eq!(service.pid_file(), None);
    }
}

#[test]
fn a_second_one_cuts() {
    for (begin, cut) in [(Signal::TERM, Signal::INT), (Signal::QUIT, Signal::USR2)] {
        let (mut service, first) = Service::start(&[]);
        let mut held = connect(&first.addresses[0]);
        // Without a drain there is nothing to cut.
        send(first.pid, Signal::USR2);
        service.logged("not draining");
        assert_eq!(held.ask("phase"), "running");
        send(first.pid, begin);
        service.wait_until("the drain", || held.ask("phase") == "draining");
        send(first.pid, cut);
        assert!(
            service.first_ended().success(),
            "although a connection is open"
        );
        service.logged("cutting");
    }
}

/// Fails if a successor is left behind, or the predecessor waits for it.
#[test]
fn told_to_stop_during_an_upgrade() {
    let (mut service, first) = Service::start(&[]);
    service.fault("hang");
    send(first.pid, Signal::HUP);
    let second: u32 = service
        .line("hanging")
        .strip_prefix(" pid=")
        .unwrap()
        .parse()
        .unwrap();
    send(first.pid, Signal::TERM);
    service.gone(second);
    assert!(service.first_ended().success());
    service.line("hup done");
    assert_eq!(service.pid_file(), None);
    assert!(TcpStream::connect(&first.addresses[0]).is_err());
}
