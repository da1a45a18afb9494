//! What it costs to move many connections, and what other clients see of it.
//!
//! As it stands this is a small check. The figures of the book are of
//!
//! ```text
//! HANDOVER_IDLE=10000 cargo test --release -p handover-tests --test moving_figures -- --nocapture
//! ```
//!
//! which holds the tests to the promises: 10,000 connections move in less than a second, and no
//! request meanwhile waits more than 100 ms longer than the slowest one before.

mod support;

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use handover_tests::{
    harness::{Exit, Server, Signal},
    load::{Target, get_on},
};
use tokio::task::JoinSet;

use self::support::{BOUND, Way, idle, listening, may_open};

const ACTIVE: usize = 16;

/// How many connections are idle, and whether the promises are held to.
fn count() -> (usize, bool) {
    let count = std::env::var("HANDOVER_IDLE").ok();
    match count.and_then(|n| n.parse().ok()) {
        Some(count) => (count, !cfg!(debug_assertions)),
        None => (1000, false),
    }
}

/// Kilobytes of a process: proportional set size, resident set size.
fn memory(pid: u32) -> Option<(u64, u64)> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let of = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    Some((of("Pss:")?, of("Rss:")?))
}

/// When each request of the active clients began, and how long it took.
type Times = Arc<Mutex<Vec<(Instant, Duration)>>>;

struct Active {
    clients: JoinSet<()>,
    times: Times,
    stop: Arc<AtomicBool>,
}

impl Active {
    async fn start(to: &Target) -> Self {
        let (times, stop) = (Times::default(), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for mut connection in idle(to, ACTIVE).await {
            let (times, stop) = (times.clone(), stop.clone());
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let answer = get_on(&mut connection, "/").await;
                    let answer = answer.expect("an answer, on the connection as it is");
                    assert!(!answer.head.close);
                    times.lock().unwrap().push((began, began.elapsed()));
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        Self {
            clients,
            times,
            stop,
        }
    }

    /// Median, 99 of 100, and the longest, of what began between the two; sorted by `between`.
    fn between(&self, from: Instant, to: Instant) -> [Duration; 3] {
        let times = self.times.lock().unwrap();
        let within = times.iter().filter(|(at, _)| (from..to).contains(at));
        let mut took: Vec<Duration> = within.map(|(_, took)| *took).collect();
        took.sort_unstable();
        assert!(!took.is_empty(), "no request was sent meanwhile");
        let at = |part: usize| took[(took.len() - 1) * part / 100];
        [at(50), at(99), at(100)]
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
    }
}

async fn upgrade(server: &Server) {
    let old = server.newest();
    old.process.signal(Signal::HUP).unwrap();
    server.ready(old.generation + 1, BOUND).await.unwrap();
}

async fn move_beside_active_clients(lazily: bool) {
    let (count, strictly) = count();
    if !may_open(count) {
        return;
    }
    let probation = if lazily { "2" } else { "0" };
    let program = listening(Way::Axum.path(), "127.0.0.1:0").args(["--probation", probation]);
    let server = program.start().await.unwrap();
    let old = server.newest();
    let to = old.first_target().unwrap();
    let empty = memory(old.pid());
    let mut connections = idle(&to, count).await;
    let active = Active::start(&to).await;
    let before = Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let full = memory(old.pid());
    let began = Instant::now();
    upgrade(&server).await;
    let new = server.newest();
    let served = Instant::now();
    let mut last = full;
    let exit = loop {
        match old.process.exit(Duration::from_millis(20)).await {
            Ok(exit) => break exit,
            Err(error) => assert!(served.elapsed() < 4 * BOUND, "{error:#}"),
        }
        last = memory(old.pid()).or(last);
    };
    assert_eq!(exit, Exit::Status(0));
    let gone = served.elapsed();
    let after = Instant::now();
    let [quiet, busy] = [(before, began), (began, after)].map(|(a, b)| active.between(a, b));
    active.stop().await;
    let report = server.stderr_line("drained in", BOUND).await.unwrap();
    let how = if lazily { "held for 2 s" } else { "at once" };
    println!("{count} idle connections, {how}, {ACTIVE} active clients:");
    println!("  the old process had gone {gone:?} after the new one served");
    println!("  median, p99, max before: {quiet:?}; meanwhile: {busy:?}");
    println!("  PSS, RSS of the old process, kB: empty {empty:?}, full {full:?}, last {last:?}");
    println!("  of the new one: {:?}", memory(new.pid()));
    println!("  {report}");
    println!(
        "  load: {}",
        fs::read_to_string("/proc/loadavg").unwrap().trim()
    );
    assert!(
        report.contains(&format!("; {} moved", count + ACTIVE)),
        "{report}"
    );
    assert!(!report.contains("stayed"), "{report}");
    for connection in &mut connections {
        let answer = get_on(connection, "/").await.unwrap();
        assert_eq!(answer.head.generation, Some(1));
    }
    if strictly && !lazily {
        assert!(gone < Duration::from_secs(1), "{gone:?}");
        assert!(busy[2] < quiet[2] + Duration::from_millis(100), "{busy:?}");
    }
}

/// One after the other: each wants the machine for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_idle_connections_move_beside_active_clients() {
    move_beside_active_clients(false).await;
    move_beside_active_clients(true).await;
}
