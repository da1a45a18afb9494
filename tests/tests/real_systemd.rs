//! A service under a real systemd: reloads, kills and stops as an operator does them.
#![cfg(target_os = "linux")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use handover_tests::{
    load::{Clients, Config, Storm, Target},
    machine::Machine,
};

const BOUND: Duration = Duration::from_secs(20);
const UNIT: &str = "app.service";
/// The machine's network is its own.
const ADDRESS: &str = "127.0.0.1:8000";
const PORT: u16 = 8000;

/// A machine with the reference server as a service, and this thread in its network.
fn with_service(settings: &str, flags: &str, test: impl FnOnce(&Machine) + Send + 'static) {
    let unit = format!(
        "[Service]\n\
         Type=notify-reload\n\
         ExecStart=/srv/ref-axum --listen web={ADDRESS} --upgrade-deadline 10 {flags}\n\
         ExecStop=-/bin/sh -c 'kill -TERM $$MAINPID && while kill -0 $$MAINPID; do sleep 0.1; done'\n\
         Environment=RUST_LOG=info\n\
         {settings}\n"
    );
    // A thread of its own, since it does not come back to where it was.
    let run = move || {
        let machine = Machine::boot().unwrap();
        machine
            .copy(env!("CARGO_BIN_EXE_ref-axum"), "/srv/ref-axum")
            .unwrap();
        machine
            .write("/run/systemd/system/app.service", &unit)
            .unwrap();
        machine.systemctl(&["daemon-reload"]).unwrap();
        machine.systemctl(&["start", UNIT]).unwrap();
        machine.enter_network().unwrap();
        test(&machine);
    };
    thread::spawn(run)
        .join()
        .unwrap_or_else(|panic| resume_unwind(panic));
}

fn main_pid(machine: &Machine) -> u32 {
    machine.property(UNIT, "MainPID").unwrap().parse().unwrap()
}

fn wait_until(machine: &Machine, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "never: {what}\n{}",
            machine.journal()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// A connection with a request on it.
fn asked(path: &str) -> TcpStream {
    request(PORT, path)
}

fn request(port: u16, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
#[ignore = "needs root, namespaces and debootstrap; run by tests/all"]
fn twenty_reloads_under_load_lose_nothing_under_a_real_systemd() {
    let settings = "WatchdogSec=5\nFileDescriptorStoreMax=8\nTimeoutStopSec=5";
    with_service(settings, "--probation 0.1", |machine| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (stop, stopped) = std::sync::mpsc::channel();
        let reloads = thread::scope(|scope| {
            let reloads = scope.spawn(move || {
                let mut took = Vec::new();
                let mut main = main_pid(machine);
                for _ in 0..20 {
                    thread::sleep(Duration::from_millis(300));
                    let begun = Instant::now();
                    machine.systemctl(&["reload", UNIT]).unwrap();
                    took.push(begun.elapsed());
                    let next = main_pid(machine);
                    assert_ne!(next, main, "another process is the main one");
                    main = next;
                }
                let _ = stop.send(());
                took
            });
            let report = runtime.block_on(async {
                let mut config = Config::new(Target::parse(ADDRESS).unwrap());
                config.clients = Clients::persistent(32);
                let storm = Storm::start(config);
                while stopped.try_recv().is_err() && !reloads.is_finished() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                storm.stop().await
            });
            let mut took = reloads.join().unwrap();
            took.sort();
            eprintln!("{report}");
            eprintln!("reloads: median {:?}, longest {:?}", took[10], took[19]);
            assert_eq!(report.lost(), 0, "{report}");
            took.len()
        });
        assert_eq!(reloads, 20);
        let status = machine.property(UNIT, "StatusText").unwrap();
        assert_eq!(status, "generation 20 serves");
        assert_eq!(machine.property(UNIT, "NRestarts").unwrap(), "0");
        assert_eq!(machine.property(UNIT, "NFileDescriptorStore").unwrap(), "1");
        machine.systemctl(&["stop", UNIT]).unwrap();
        let journal = machine
            .run(&["journalctl", "--no-pager", "-u", UNIT])
            .unwrap();
        let journal = String::from_utf8_lossy(&journal.stdout).into_owned();
        let result = machine.property(UNIT, "Result").unwrap();
        assert_eq!(result, "success", "{journal}");
        assert_eq!(machine.property(UNIT, "NFileDescriptorStore").unwrap(), "0");
        assert!(!journal.contains("reception only permitted"), "{journal}");
    });
}

#[test]
#[ignore = "needs root, namespaces and debootstrap; run by tests/all"]
fn what_was_queued_at_a_kill_is_served_after_it_under_a_real_systemd() {
    let settings = "FileDescriptorStoreMax=8\nRestart=always\nRestartSec=0";
    with_service(settings, "", |machine| {
        machine.systemctl(&["reload", UNIT]).unwrap();
        // Kept by the first, which takes its time to go, and then by its successor.
        assert_eq!(machine.property(UNIT, "NFileDescriptorStore").unwrap(), "1");
        let first = main_pid(machine);
        machine.systemctl(&["kill", "-s", "STOP", UNIT]).unwrap();
        let clients: Vec<_> = (0..50).map(|_| asked("/")).collect();
        machine.systemctl(&["kill", "-s", "KILL", UNIT]).unwrap();
        let begun = Instant::now();
        for client in clients {
            let text = answer(client);
            assert!(
                text.starts_with("HTTP/1.1 200"),
                "{text}\n{}",
                machine.journal()
            );
        }
        eprintln!(
            "50 queued connections served {:?} after the kill",
            begun.elapsed()
        );
        assert_ne!(main_pid(machine), first);
        assert_eq!(machine.property(UNIT, "NRestarts").unwrap(), "1");
        machine.systemctl(&["stop", UNIT]).unwrap();
    });
}

#[test]
#[ignore = "needs root, namespaces and debootstrap; run by tests/all"]
fn a_drain_that_takes_longer_than_the_unit_says_is_given_its_time_under_a_real_systemd() {
    with_service("TimeoutStopSec=1", "--deadline 15", |machine| {
        let slow = asked("/slow?ms=5000");
        wait_until(machine, "the slow request", || {
            // It is served once another that came later is.
            answer(asked("/")).starts_with("HTTP/1.1 200")
        });
        let begun = Instant::now();
        machine.systemctl(&["stop", UNIT]).unwrap();
        let took = begun.elapsed();
        assert!(answer(slow).starts_with("HTTP/1.1 200"));
        eprintln!("stop took {took:?}, with TimeoutStopSec=1");
        assert!(took > Duration::from_secs(3), "{took:?}");
        assert_eq!(machine.property(UNIT, "Result").unwrap(), "success");
    });
}

/// Fails if the unit does not wait by itself: systemd does not wait for a main process that was
/// another's child when it became that, and kills it at once.
#[test]
#[ignore = "needs root, namespaces and debootstrap; run by tests/all"]
fn a_stop_after_an_upgrade_waits_for_the_drain_under_a_real_systemd() {
    with_service(
        "TimeoutStopSec=1",
        "--deadline 15 --probation 0",
        |machine| {
            let first = main_pid(machine);
            machine.systemctl(&["reload", UNIT]).unwrap();
            assert_ne!(main_pid(machine), first);
            // Alone, so that nobody is waited for in its stead.
            wait_until(machine, "the predecessor's end", || {
                let there = machine.run(&["kill", "-0", &first.to_string()]);
                !there.unwrap().status.success()
            });
            let slow = asked("/slow?ms=4000");
            wait_until(machine, "the slow request", || {
                answer(asked("/")).starts_with("HTTP/1.1 200")
            });
            let begun = Instant::now();
            machine.systemctl(&["stop", UNIT]).unwrap();
            let took = begun.elapsed();
            assert!(answer(slow).starts_with("HTTP/1.1 200"));
            assert!(took > Duration::from_secs(2), "{took:?}");
            assert_eq!(machine.property(UNIT, "Result").unwrap(), "success");
        },
    );
}

#[test]
#[ignore = "needs root, namespaces and debootstrap; run by tests/all"]
fn the_watchdog_bites_who_hangs_and_nobody_else_under_a_real_systemd() {
    let settings = "WatchdogSec=1\nFileDescriptorStoreMax=8\nRestart=always\nRestartSec=0";
    with_service(settings, "--probation 0", |machine| {
        machine.systemctl(&["reload", UNIT]).unwrap();
        let second = main_pid(machine);
        thread::sleep(Duration::from_secs(4));
        assert_eq!(main_pid(machine), second, "{}", machine.journal());
        assert_eq!(machine.property(UNIT, "NRestarts").unwrap(), "0");
        machine.systemctl(&["kill", "-s", "STOP", UNIT]).unwrap();
        let waiting = asked("/");
        assert!(
            answer(waiting).starts_with("HTTP/1.1 200"),
            "{}",
            machine.journal()
        );
        assert_ne!(main_pid(machine), second);
        assert_eq!(machine.property(UNIT, "NRestarts").unwrap(), "1");
        machine.systemctl(&["stop", UNIT]).unwrap();
    });
}

// ===== the units of the examples =====

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/systemd");

/// A machine with all that `examples/systemd` holds, and their program.
fn with_examples(test: impl FnOnce(&Machine, &[String]) + Send + 'static) {
    let run = move || {
        let machine = Machine::boot().unwrap();
        let mut units = Vec::new();
        for entry in fs::read_dir(EXAMPLES).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let place = format!("/etc/systemd/system/{name}");
            if entry.file_type().unwrap().is_file() {
                machine.copy(entry.path(), &place).unwrap();
                units.push(place);
                continue;
            }
            for drop_in in fs::read_dir(entry.path()).unwrap() {
                let drop_in = drop_in.unwrap();
                let text = fs::read_to_string(drop_in.path()).unwrap();
                let name = drop_in.file_name().into_string().unwrap();
                machine.write(&format!("{place}/{name}"), &text).unwrap();
            }
        }
        assert!(units.len() >= 4, "{units:?}");
        machine
            .copy(example(), "/usr/local/bin/axum-upgrade")
            .unwrap();
        machine.enter_network().unwrap();
        test(&machine, &units);
    };
    thread::spawn(run)
        .join()
        .unwrap_or_else(|panic| resume_unwind(panic));
}

/// The program of the units, which is built with the workspace.
fn example() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_ref-axum")).with_file_name("axum-upgrade");
    assert!(path.exists(), "cargo build -p axum-upgrade");
    path
}

#[test]
#[ignore = "needs root, namespaces and debootstrap; run by tests/all"]
fn the_units_of_the_examples_are_accepted_by_a_real_systemd() {
    with_examples(|machine, units| {
        let mut words = vec!["systemd-analyze", "verify", "--man=no"];
        words.extend(units.iter().map(String::as_str));
        let output = machine.run(&words).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.trim().is_empty(), "{said}");
    });
}

/// Which generation answers.
fn generation(port: u16) -> String {
    let text = answer(request(port, "/generation"));
    let (_, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{text:?}"));
    body.trim().to_owned()
}

#[test]
#[ignore = "needs root, namespaces and debootstrap; run by tests/all"]
fn the_units_of_the_examples_do_what_they_say_under_a_real_systemd() {
    with_examples(|machine, _| {
        // Hardened, and reloaded all the same.
        machine
            .systemctl(&["start", "handover-app.service"])
            .unwrap();
        assert_eq!(generation(3000), "0");
        machine
            .systemctl(&["reload", "handover-app.service"])
            .unwrap();
        wait_until(machine, "the successor", || generation(3000) == "1");

        // Started by its first client, which is answered; and so is one that comes while it restarts.
        machine
            .systemctl(&["start", "handover-activated.socket"])
            .unwrap();
        assert_eq!(generation(3001), "0");
        machine
            .systemctl(&["reload", "handover-activated.service"])
            .unwrap();
        wait_until(machine, "the successor", || generation(3001) == "1");
        machine
            .systemctl(&["restart", "handover-activated.service"])
            .unwrap();
        assert_eq!(generation(3001), "0");

        // Killed, and nobody is refused.
        machine
            .systemctl(&["start", "handover-kept.service"])
            .unwrap();
        for _ in 0..3 {
            machine
                .systemctl(&["kill", "-s", "KILL", "handover-kept.service"])
                .unwrap();
            for _ in 0..20 {
                assert_eq!(generation(3002), "0");
            }
        }
        for unit in ["app", "activated", "kept"] {
            let unit = format!("handover-{unit}.service");
            machine.systemctl(&["stop", &unit]).unwrap();
            assert_eq!(
                machine.property(&unit, "Result").unwrap(),
                "success",
                "{unit}"
            );
        }
    });
}
