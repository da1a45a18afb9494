//! Upgrades across a network on which a round trip takes ten milliseconds.
//!
//! `HANDOVER_UPGRADES=1000`, in a release build and with `--ignored --nocapture ours`, is the figure
//! of the book: 64 busy and 256 idle connections, and none of them is closed.
#![cfg(target_os = "linux")]

use std::{panic::resume_unwind, thread, time::Duration};

use handover_tests::{
    harness::{Exit, Program, Signal},
    load::{Clients, Config, Kind, Report, Storm},
    network::{DelayLine, Weather},
};
use tokio::{runtime, time::sleep};

const EACH_WAY: Duration = Duration::from_millis(5);
const BETWEEN: Duration = Duration::from_millis(700);
const BOUND: Duration = Duration::from_secs(20);

/// How many upgrades.
fn upgrades() -> u64 {
    let upgrades = std::env::var("HANDOVER_UPGRADES").ok();
    upgrades.and_then(|n| n.parse().ok()).unwrap_or(5)
}

/// Not one plaintext connection is closed, and nobody is told to go.
#[test]
#[ignore = "needs root, ip and /dev/net/tun; run by tests/all"]
fn ours_closes_no_connection_across_a_delay_line() {
    let mut clients = Clients::none();
    clients.keepalive = 64;
    clients.idle = 256;
    let report = under_load(env!("CARGO_BIN_EXE_ref-axum"), clients);
    judge(&report);
    assert_eq!(report.told(), 0, "{report}");
    assert_eq!(report.found_closed(), 0, "{report}");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    eprintln!("{} upgrades; load {}", upgrades(), load.trim());
}

#[test]
#[ignore = "needs root, ip and /dev/net/tun; run by tests/all"]
fn upgrades_of_our_loop_across_a_delay_line_lose_nothing() {
    let program = env!("CARGO_BIN_EXE_ref-axum");
    judge(&under_load(program, Clients::persistent(32)));
}

#[test]
#[ignore = "needs root, ip and /dev/net/tun; run by tests/all"]
fn upgrades_of_axums_loop_across_a_delay_line_lose_nothing() {
    let program = env!("CARGO_BIN_EXE_ref-axum-foreign");
    judge(&under_load(program, Clients::persistent(32)));
}

/// Requests and answers are late, come twice, and overtake one another; so does what is said of a drain.
#[test]
#[ignore = "needs root, ip and /dev/net/tun; run by tests/all"]
fn upgrades_of_our_loop_across_a_delay_line_in_bad_weather_lose_nothing() {
    let program = env!("CARGO_BIN_EXE_ref-axum");
    let clients = Clients::persistent(32);
    judge(&in_weather(program, clients, Weather::bad(1)));
}

#[test]
#[ignore = "needs root, ip and /dev/net/tun; run by tests/all"]
fn upgrades_of_axums_loop_across_a_delay_line_in_bad_weather_lose_nothing() {
    let program = env!("CARGO_BIN_EXE_ref-axum-foreign");
    let clients = Clients::persistent(32);
    judge(&in_weather(program, clients, Weather::bad(2)));
}

fn judge(report: &Report) {
    eprintln!("{report}");
    assert_eq!(report.lost(), 0, "{report}");
    assert_eq!(report.restarts_taken() as u64, upgrades(), "{report}");
    // Or else it was not across the line.
    let keepalive = report.kind(Kind::Keepalive).unwrap();
    assert!(keepalive.p99 >= 2 * EACH_WAY, "{report}");
}

/// Upgrades the server at one end while clients ask it from the other.
fn under_load(program: &'static str, clients: Clients) -> Report {
    in_weather(program, clients, Weather::default())
}

fn in_weather(program: &'static str, clients: Clients, weather: Weather) -> Report {
    // A thread of its own, since it does not come back to where it was.
    thread::spawn(move || {
        let line = DelayLine::lay_in(weather, EACH_WAY).unwrap();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(drive(program, clients, &line))
    })
    .join()
    .unwrap_or_else(|panic| resume_unwind(panic))
}

async fn drive(program: &str, clients: Clients, line: &DelayLine) -> Report {
    line.server().enter().unwrap();
    let listen = format!("{}:0", line.server().address());
    let program = Program::new(program).args(["--listen", &listen]);
    let server = program.start().await.unwrap();

    line.client().enter().unwrap();
    let mut config = Config::new(server.newest().tcp().unwrap());
    config.clients = clients;
    // What carries the packets has two processors, with all else.
    config.keepalive_pause = Duration::from_millis(20);
    let storm = Storm::start(config);
    let mut replaced = Vec::new();
    for generation in 1..=upgrades() {
        sleep(BETWEEN).await;
        let old = server.newest().process;
        let mark = storm.mark(generation);
        old.signal(Signal::HUP).unwrap();
        server.ready(generation, BOUND).await.unwrap();
        replaced.push((mark, old));
    }
    for (mark, old) in replaced {
        let exit = old.exit(BOUND).await.unwrap();
        // One that goes before its predecessor is that one's to wait for.
        let clean = matches!(exit, Exit::Status(0) | Exit::Unknown);
        assert!(clean, "process {}: {exit}", old.pid());
        storm.gone(mark);
    }
    let report = storm.stop().await;
    assert!(server.terminate(BOUND).await.unwrap().is_success());
    report
}
