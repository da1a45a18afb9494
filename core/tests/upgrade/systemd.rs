//! What a service manager hears. The socket is the test's own; the messages are real.

use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::Path,
    time::Duration,
};

use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::Signal,
};

use super::service::{Service, connect, directory, send};

/// The receiving end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(socket)
    }

    /// The next message, and what came with it, which is closed when it is dropped.
    fn next(&self) -> (String, Vec<OwnedFd>) {
        let mut bytes = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let iov = &mut [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(&self.0, iov, &mut control, flags).expect("nothing more was said");
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fds = fds.flatten().collect();
        (
            String::from_utf8_lossy(&bytes[..got.bytes]).into_owned(),
            fds,
        )
    }

    fn hears(&self, lines: &[&str]) -> Vec<OwnedFd> {
        let (message, fds) = self.next();
        for line in lines {
            let said = message.lines().any(|said| said == *line);
            assert!(said, "{message:?} does not say {line:?}");
        }
        fds
    }

    fn hears_nothing(&self) {
        self.0
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let mut bytes = [0; 1024];
        if let Ok(n) = self.0.recv(&mut bytes) {
            panic!("{:?}", String::from_utf8_lossy(&bytes[..n]));
        }
    }
}

#[test]
fn the_manager_follows_an_upgrade_and_a_stop() {
    let dir = directory();
    let path = dir.path().join("notify");
    let manager = Manager::listen(&path);
    let (mut service, first) = Service::start(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    manager.hears(&["READY=1", "STATUS=generation 0 serves"]);

    send(first.pid, Signal::HUP);
    let (reload, _) = manager.next();
    assert!(reload.contains("RELOADING=1\n"), "{reload:?}");
    assert!(reload.contains("MONOTONIC_USEC="), "{reload:?}");
    let second = service.ready();
    manager.hears(&[&format!("MAINPID={}", second.pid), "READY=1"]);
    let barrier = manager.hears(&["BARRIER=1"]);
    assert_eq!(barrier.len(), 1);
    // It stays until the manager has heard.
    std::thread::sleep(Duration::from_millis(100));
    assert!(service.child.try_wait().unwrap().is_none());
    drop(barrier);
    assert!(service.first_ended().success());

    send(second.pid, Signal::TERM);
    manager.hears(&["STOPPING=1"]);
    service.gone(second.pid);
    manager.hears_nothing();
}

#[test]
fn a_reload_that_fails_ends_ready() {
    let dir = directory();
    let path = dir.path().join("notify");
    let manager = Manager::listen(&path);
    let (service, first) = Service::start(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    manager.hears(&["READY=1"]);
    service.fault("exit");
    send(first.pid, Signal::HUP);
    manager.hears(&["RELOADING=1"]);
    manager.hears(&["READY=1", "STATUS=generation 0 serves"]);
}

#[test]
fn a_successor_that_dies_gives_the_main_process_back() {
    let dir = directory();
    let path = dir.path().join("notify");
    let manager = Manager::listen(&path);
    let (service, first) = Service::start(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    manager.hears(&["READY=1"]);
    let _held = connect(&first.addresses[0]);
    send(first.pid, Signal::HUP);
    manager.hears(&["RELOADING=1"]);
    let second = service.ready();
    manager.hears(&[&format!("MAINPID={}", second.pid)]);
    drop(manager.hears(&["BARRIER=1"]));
    send(second.pid, Signal::KILL);
    manager.hears(&[&format!("MAINPID={}", first.pid), "READY=1"]);
}
