//! What a service manager hears. The manager is the test's own; the messages are real.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    manager::Manager,
    server::{DEADLINE_MS, READY_TIMEOUT_MS},
    service::{PATIENCE, Service, alive, ask, connect, send, who},
};

/// What a manager is asked for beyond the deadline.
const GRACE: Duration = Duration::from_secs(2);

#[test]
fn the_manager_follows_upgrades_and_a_stop() {
    let manager = Manager::new();
    let (mut service, mut serving) = manager.start();
    manager.hears(&["READY=1", "STATUS=generation 0 serves"]);
    for generation in 1..4 {
        send(serving.pid, Signal::HUP);
        let reload = manager.hears(&["RELOADING=1"]);
        assert!(reload.value("MONOTONIC_USEC").is_some(), "{reload:?}");
        assert_eq!(reload.pid, serving.pid);
        let next = service.ready();
        let status = format!("STATUS=generation {generation} serves");
        let switch = manager.hears(&[&format!("MAINPID={}", next.pid), "READY=1", &status]);
        assert_eq!(switch.pid, serving.pid);
        assert_eq!(manager.hears(&["BARRIER=1"]).pid, serving.pid);
        if generation == 1 {
            assert!(service.first_ended().success());
        }
        service.gone(serving.pid);
        serving = next;
    }
    assert_eq!(manager.stop(PATIENCE), serving.pid);
    let stop = manager.hears(&["STOPPING=1"]);
    assert!(stop.value("EXTEND_TIMEOUT_USEC").is_some(), "{stop:?}");
    service.gone(serving.pid);
    let all = manager.all();
    // By the last, and once.
    assert_eq!(all.iter().filter(|said| said.says("STOPPING=1")).count(), 1);
    let refused: Vec<_> = all.iter().filter(|said| !said.heard).collect();
    // The barrier follows the switch.
    assert!(
        refused.iter().all(|said| said.says("BARRIER=1")),
        "{refused:#?}"
    );
}

#[test]
fn a_predecessor_stays_until_the_manager_knows() {
    let manager = Manager::new();
    let (mut service, first) = manager.start();
    manager.hold_barriers();
    send(first.pid, Signal::HUP);
    let _ = service.ready();
    manager.hears(&["BARRIER=1"]);
    std::thread::sleep(Duration::from_millis(100));
    assert!(service.child.try_wait().unwrap().is_none());
    assert_eq!(manager.release_barriers(), 1);
    assert!(service.first_ended().success());
}

#[test]
fn a_reload_that_fails_ends_ready_and_says_why() {
    let manager = Manager::new();
    let (service, first) = manager.start();
    manager.hears(&["READY=1"]);
    service.fault("exit");
    send(first.pid, Signal::HUP);
    manager.hears(&["RELOADING=1"]);
    let ready = manager.hears(&["READY=1"]);
    let status = ready.value("STATUS").unwrap();
    assert!(
        status.starts_with("generation 0 serves; the last upgrade failed: ")
            && status.contains("no database"),
        "{status}"
    );
    assert_eq!(manager.main(), first.pid);
}

#[test]
fn a_successor_that_dies_gives_the_main_process_back() {
    let manager = Manager::new();
    let (service, first) = manager.start();
    let _held = connect(&first.addresses[0]);
    send(first.pid, Signal::HUP);
    let second = service.ready();
    manager.hears(&[&format!("MAINPID={}", second.pid)]);
    manager.hears(&["BARRIER=1"]);
    send(second.pid, Signal::KILL);
    let back = manager.hears(&[&format!("MAINPID={}", first.pid), "READY=1"]);
    // Only a manager with NotifyAccess=all takes it from one that is not the main process.
    assert_eq!((back.pid, back.heard), (first.pid, false));
}

#[test]
fn what_takes_long_to_start_is_given_time_and_says_what_it_does() {
    let mut manager = Manager::new();
    manager.env = vec![(READY_TIMEOUT_MS, "8000".to_owned())];
    let (service, first) = manager.start();
    let starting = manager.hears(&["STATUS=starting: warming up"]);
    assert_eq!(starting.value("EXTEND_TIMEOUT_USEC"), Some("12000000"));
    manager.hears(&["READY=1"]);
    service.fault("hang");
    let begun = Instant::now();
    send(first.pid, Signal::HUP);
    manager.hears(&["STATUS=generation 0 serves, generation 1 starts: warming up"]);
    // Until it is killed.
    let limit = Duration::from_millis(8000) + GRACE;
    let failed = manager.hears_one("the end of the attempt", |said| {
        if let Some(usec) = said.value("EXTEND_TIMEOUT_USEC") {
            let asked = Duration::from_micros(usec.parse().unwrap());
            let until = said.at + asked - begun;
            // The message takes a moment to come.
            assert!(until < limit + Duration::from_millis(500), "{until:?}");
            assert!(asked >= GRACE);
        }
        said.says("READY=1")
    });
    assert_eq!(failed.pid, first.pid);
    let all = manager.all();
    let asked = all.iter().filter(|said| {
        said.at > begun && said.value("EXTEND_TIMEOUT_USEC").is_some() && said.heard
    });
    assert!(asked.count() >= 4, "{all:#?}");
    assert!(all.iter().all(|said| said.heard), "{all:#?}");
}

#[test]
fn a_long_drain_is_given_its_time_and_no_more() {
    let mut manager = Manager::new();
    manager.env = vec![(DEADLINE_MS, "7000".to_owned())];
    let (mut service, first) = manager.start();
    let held = [connect(&first.addresses[0]), connect(&first.addresses[0])];
    service.served_by(&first.addresses[0], first.pid);
    let begun = Instant::now();
    // Far less than it takes: what counts is what it asks for.
    manager.stop(Duration::from_millis(500));
    assert!(service.first_ended().success());
    let took = begun.elapsed();
    assert!(!manager.has_killed());
    assert!(took > Duration::from_secs(6), "{took:?}");
    drop(held);
    let all = manager.all();
    let asked: Vec<_> = all
        .iter()
        .filter(|said| said.at > begun && said.value("EXTEND_TIMEOUT_USEC").is_some())
        .collect();
    assert!(asked.len() >= 3, "{all:#?}");
    for said in asked {
        let usec = said.value("EXTEND_TIMEOUT_USEC").unwrap();
        let until = said.at + Duration::from_micros(usec.parse().unwrap()) - begun;
        let most = Duration::from_millis(7060) + GRACE + Duration::from_millis(500);
        assert!(until < most, "{until:?}");
    }
    let drains = all.iter().filter_map(|said| said.value("STATUS"));
    let drains: Vec<_> = drains.filter(|text| text.starts_with("draining")).collect();
    assert!(
        drains.len() >= 3 && drains[0].ends_with(" left"),
        "{drains:?}"
    );
}

#[test]
fn nothing_is_asked_for_when_the_drain_is_over() {
    let manager = Manager::new();
    let (mut service, first) = manager.start();
    let mut held = connect(&first.addresses[0]);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    manager.stop(Duration::from_millis(500));
    manager.hears(&["STOPPING=1"]);
    // A second message, so that there is something to end.
    manager.hears_one("that it goes on", |said| {
        said.value("EXTEND_TIMEOUT_USEC").is_some()
    });
    drop(held);
    assert!(service.first_ended().success());
    let before = manager.all().len();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(manager.all().len(), before);
}

/// Waits for some signs of life of a process, and says how far apart they were at most.
fn signs(manager: &Manager, pid: u32, count: usize) -> Duration {
    let mut last: Option<Instant> = None;
    let mut apart = Duration::ZERO;
    for _ in 0..count {
        let sign = manager.hears_one("a sign of life", |said| said.says("WATCHDOG=1"));
        assert_eq!((sign.pid, sign.heard), (pid, true), "{sign:?}");
        apart = apart.max(last.map(|last| sign.at - last).unwrap_or_default());
        last = Some(sign.at);
    }
    apart
}

#[test]
fn signs_of_life_come_from_the_main_process_only() {
    let mut manager = Manager::new();
    manager.watchdog = Some(Duration::from_secs(1));
    let (service, first) = manager.start();
    let apart = signs(&manager, first.pid, 4);
    assert!(apart < Duration::from_secs(1), "{apart:?}");
    // The predecessor stays, and is silent.
    let mut held = connect(&first.addresses[0]);
    assert_eq!(held.ask("pid"), first.pid.to_string());
    send(first.pid, Signal::HUP);
    let second = service.ready();
    let switch = manager.hears(&[&format!("MAINPID={}", second.pid)]);
    assert!(switch.says("WATCHDOG=1"), "{switch:?}");
    let apart = signs(&manager, second.pid, 4);
    assert!(apart < Duration::from_secs(1), "{apart:?}");
    // And so does the one after it, whose environment is its predecessor's.
    send(second.pid, Signal::HUP);
    let third = service.ready();
    manager.hears(&[&format!("MAINPID={}", third.pid)]);
    let apart = signs(&manager, third.pid, 4);
    assert!(apart < Duration::from_secs(1), "{apart:?}");
    let signs: Vec<_> = manager.all();
    let signs: Vec<_> = signs
        .iter()
        .filter(|said| said.says("WATCHDOG=1"))
        .collect();
    for pair in signs.windows(2) {
        let apart = pair[1].at - pair[0].at;
        assert!(apart < Duration::from_secs(1), "{pair:#?}");
    }
    drop(held);
}

#[test]
fn a_runtime_that_hangs_gives_no_sign_of_life() {
    let mut manager = Manager::new();
    manager.watchdog = Some(Duration::from_millis(500));
    let (service, first) = manager.start();
    signs(&manager, first.pid, 3);
    // As many as the runtime has threads.
    let blocks: Vec<_> = (0..2)
        .map(|_| {
            let mut talk = connect(&first.addresses[0]);
            std::thread::spawn(move || talk.ask("block"))
        })
        .collect();
    let silent = |manager: &Manager| {
        let all = manager.all();
        let last = all.iter().rfind(|said| said.says("WATCHDOG=1")).unwrap();
        last.at.elapsed() > Duration::from_millis(1500)
    };
    service.wait_until("silence", || silent(&manager));
    assert!(alive(first.pid));
    fs::write(service.path("unblock"), "").unwrap();
    for block in blocks {
        assert_eq!(block.join().unwrap(), "ok");
    }
    service.wait_until("another sign of life", || !silent(&manager));
    assert_eq!(who(&first.addresses[0]), first.pid);
}

#[test]
fn a_watchdog_for_another_process_is_left_alone() {
    let dir = super::service::directory();
    let mut command = super::service::command(dir.path());
    let manager = std::os::unix::net::UnixDatagram::bind(dir.path().join("notify")).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    command
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .env("WATCHDOG_USEC", "100000")
        .env("WATCHDOG_PID", "1");
    let (_service, first) = Service::run(dir, command);
    let mut bytes = [0; 1024];
    while let Ok(n) = manager.recv(&mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..n]);
        assert!(!text.contains("WATCHDOG"), "{text}");
    }
    assert_eq!(ask(&first.addresses[0], "pid"), first.pid.to_string());
}
