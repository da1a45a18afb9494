//! Upgrades that succeed.

use std::fs;

use rustix::process::Signal;

use super::{
    server,
    service::{Service, alive, ask, connect, send, state, who},
};

#[test]
fn a_hangup_changes_the_process_and_nothing_else() {
    let (mut service, first) = Service::start(&[]);
    assert_eq!((first.generation, first.pid), (0, service.child.id()));
    assert_eq!(service.pid_file(), Some(first.pid));

    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(second.generation, 1);
    assert_ne!(second.pid, first.pid);
    assert_eq!(second.addresses, first.addresses, "port 0 keeps its port");
    assert_eq!(service.pid_file(), Some(second.pid));
    assert!(service.first_ended().success());
    assert_eq!(
        service.pid_file(),
        Some(second.pid),
        "it was not the first's to remove"
    );
    service.served_by(&second.addresses[0], second.pid);

    send(second.pid, Signal::HUP);
    let third = service.ready();
    assert_eq!((third.generation, &third.addresses), (2, &first.addresses));
    service.gone(second.pid);
    send(third.pid, Signal::TERM);
    service.gone(third.pid);
    assert_eq!(service.pid_file(), None, "the last one removes it");
}

#[test]
fn the_program_learns_who_took_over_and_an_open_connection_is_served_on() {
    let (mut service, first) = Service::start(&[]);
    let mut talk = connect(&first.addresses[0]);
    let answer = talk.ask("upgrade");
    let second = service.ready();
    assert_eq!(answer, format!("ok generation 1 (pid {})", second.pid));
    service.served_by(&first.addresses[0], second.pid);
    assert_eq!(
        talk.ask("pid"),
        first.pid.to_string(),
        "the old process serves what it has"
    );
    assert_eq!(talk.ask("phase"), "draining");
    assert!(talk.ask("upgrade").contains("Draining"));
    drop(talk);
    assert!(service.first_ended().success());
}

/// Fails if a successor accepts before it is ready, or its predecessor stops before that.
#[test]
fn the_predecessor_accepts_until_the_successor_is_ready() {
    let (service, first) = Service::start(&[]);
    service.fault("hang");
    send(first.pid, Signal::HUP);
    service.line("hanging");
    for _ in 0..200 {
        assert_eq!(who(&first.addresses[0]), first.pid);
    }
    service.no_fault();
    let second = service.ready();
    service.served_by(&first.addresses[0], second.pid);
    service.logged("warming up");
}

#[test]
fn no_connection_is_lost_over_many_upgrades_and_nothing_grows() {
    const UPGRADES: u64 = 20;
    let (service, mut now) = Service::start(&[]);
    let address = now.addresses[0].clone();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut counts = Vec::new();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                who(&address);
                asked += 1;
            }
            asked
        });
        for number in 1..=UPGRADES {
            let before = now.pid;
            send(before, Signal::HUP);
            now = service.ready();
            assert_eq!(now.generation, number);
            assert_eq!(service.pid_file(), Some(now.pid));
            service.gone(before);
            // The end of the predecessor is noticed by a task that then closes the channel.
            service.logged(&format!("predecessor gone predecessor={before}"));
            assert_ne!(state(now.pid), Some('Z'));
            counts.push(now.pid);
            if number == 2 || number == UPGRADES {
                let pid = now.pid;
                service.wait_until("no child is left", || children(pid).is_empty());
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(load.join().unwrap() > UPGRADES);
    });
    // The last generation, without load, has as many descriptors as a second one.
    let (other, first) = Service::start(&[]);
    send(first.pid, Signal::HUP);
    let second = other.ready();
    other.gone(first.pid);
    let expected = descriptors(second.pid);
    let pid = now.pid;
    service.wait_until("no more descriptors than a second generation", || {
        descriptors(pid) == descriptors(second.pid)
    });
    assert!(expected < 30, "{expected}");
    let size = fs::read(format!("/proc/{pid}/environ")).unwrap().len();
    let other = fs::read(format!("/proc/{}/environ", second.pid))
        .unwrap()
        .len();
    assert!(
        size.abs_diff(other) < 64,
        "the environment grows: {size} and {other}"
    );
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn children(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
}

#[test]
fn two_hangups_are_one_upgrade() {
    let (service, first) = Service::start(&[]);
    service.fault("hang");
    send(first.pid, Signal::HUP);
    service.line("hanging");
    let mut talk = connect(&first.addresses[0]);
    assert!(talk.ask("upgrade").contains("InProgress"));
    send(first.pid, Signal::HUP);
    send(first.pid, Signal::HUP);
    service.no_fault();
    let second = service.ready();
    // The second is acted on when the first is over, and ignored, for this process drains.
    service.line("hup done");
    service.line("hup done");
    drop(talk);
    service.gone(first.pid);
    service.served_by(&second.addresses[0], second.pid);
    assert_eq!(service.log().matches("successor started").count(), 1);
}

#[test]
fn what_is_printed_while_starting_and_after_arrives() {
    let (mut service, first) = Service::start(&[]);
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert!(service.first_ended().success());
    assert_eq!(ask(&second.addresses[0], "speak"), "ok");
    for text in [
        "early 0\n",
        "late 0\n",
        "early 1\n",
        "late 1\n",
        "spoken 1\n",
    ] {
        service.logged(text);
        assert_eq!(service.log().matches(text).count(), 1, "{text}");
    }
}

#[test]
fn a_changed_directory_and_a_moved_link_do_not_matter() {
    let (service, first) = Service::start(&[]);
    assert_eq!(ask(&first.addresses[0], "chdir"), "ok");
    let copy = service.path("release-2");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::remove_file(service.path("server")).unwrap();
    std::os::unix::fs::symlink(&copy, service.path("server")).unwrap();
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(
        fs::read_link(format!("/proc/{}/exe", second.pid)).unwrap(),
        copy
    );
    assert_ne!(
        fs::read_link(format!("/proc/{}/cwd", second.pid)).unwrap(),
        fs::canonicalize("/").unwrap()
    );
}

#[test]
fn what_a_program_starts_for_itself_inherits_no_socket() {
    let (service, first) = Service::start(&[]);
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert_eq!(ask(&second.addresses[0], "child"), "0");
}

#[test]
fn a_probation_keeps_the_predecessor() {
    let (mut service, first) = Service::start(&[(server::PROBATION_MS, "100000")]);
    send(first.pid, Signal::HUP);
    let second = service.ready();
    service.line("hup done");
    assert!(alive(first.pid));
    send(second.pid, Signal::KILL);
    service.logged("serving again");
    assert_eq!(who(&first.addresses[0]), first.pid);
    assert_eq!(service.pid_file(), Some(first.pid));
    // Well again, and free to try again.
    send(first.pid, Signal::HUP);
    let third = service.ready();
    service.served_by(&first.addresses[0], third.pid);
    // TERM on the predecessor ends that: the successor is on its own.
    service.line("hup done");
    send(first.pid, Signal::TERM);
    assert!(service.first_ended().success());
    service.served_by(&first.addresses[0], third.pid);
}
