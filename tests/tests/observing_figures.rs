//! What it costs a drain to be looked at.
//!
//! Many connections are told to go: a service is to stop, and each of them asks once more. Time after
//! time nobody looks, and then a page does: it reads the events, in which is what holds the drain open.
//!
//! As it stands this is a small check. A ratio that says something is that of
//!
//! ```text
//! HANDOVER_IDLE=10000 HANDOVER_RUNS=20 \
//!     cargo test --release -p handover-tests --test observing_figures -- --nocapture
//! ```
//!
//! on a machine that does nothing else: each connection has to be asked within the announce window.

mod support;

use std::{env, fs, net::SocketAddr, time::Duration};

use handover_tests::{
    harness::{Exit, Signal},
    load::{Connection, Target, get_on},
};
use tokio::{
    io::AsyncReadExt,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use self::support::{BOUND, Peer, Way, idle, may_open};

fn asked(name: &str, otherwise: usize) -> usize {
    let number = env::var(name).ok().and_then(|number| number.parse().ok());
    number.unwrap_or(otherwise)
}

/// So many are asked within the announce window on any machine.
const SURE: usize = 1000;

/// What one drain took.
#[derive(Clone, Copy, Debug)]
struct Took {
    seconds: f64,
    /// Of all processors, in the service.
    processor: f64,
}

/// Ticks of the clock that a process has used, a hundredth of a second each.
fn ticks(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have anything in it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<f64> = fields
        .split(' ')
        .filter_map(|field| field.parse().ok())
        .collect();
    // The first is a letter and is not among them: utime and stime are the 14th and 15th of all.
    Some(fields.get(10)? + fields.get(11)?)
}

async fn drain(count: usize, looked_at: bool) -> Took {
    let program = Way::Axum.program().args(["--admin", "127.0.0.1:0"]);
    let server = program.args(["--deadline", "60"]).start().await.unwrap();
    let process = server.newest().process;
    let to = server.newest().first_target().unwrap();
    let Ok(Target::Tcp(admin)) = server.newest().target("admin") else {
        panic!("an admin listener over TCP")
    };
    let connections = idle(&to, count).await;
    let page = match looked_at {
        true => Some(Page::open(admin).await),
        false => None,
    };
    let before = ticks(process.pid()).unwrap();
    process.signal(Signal::TERM).unwrap();
    server.stderr_line("draining", BOUND).await.unwrap();
    // As many at a time as a small machine can do something with.
    let mut clients = JoinSet::new();
    for connections in deal(connections, 64) {
        clients.spawn(async move {
            let mut told = 0;
            for mut connection in connections {
                // What is not asked within the announce window is closed.
                if let Ok(answer) = get_on(&mut connection, "/").await {
                    assert!(answer.head.close, "it is told to go");
                    told += 1;
                }
            }
            told
        });
    }
    let mut used = before;
    while process.is_running() {
        used = ticks(process.pid()).unwrap_or(used).max(used);
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(process.exit(BOUND).await.unwrap(), Exit::Status(0));
    let mut told = 0;
    while let Some(client) = clients.join_next().await {
        told += client.unwrap();
    }
    let looks = match page {
        Some(page) => page.looks().await,
        None => 0,
    };
    let report = server.stderr_line("drained in", BOUND).await.unwrap();
    let seconds = report
        .split_once("drained in ")
        .and_then(|(_, took)| took.split(' ').next()?.parse().ok());
    // Of many, some are not asked in time on a machine that is busy with other things.
    assert!(told == count || count > SURE, "{told} told; {report}");
    println!("{told} told, {looks} looks; {report}");
    Took {
        seconds: seconds.unwrap_or_else(|| panic!("{report}")),
        processor: (used - before) / 100.0,
    }
}

/// Somebody who looks on until the end.
struct Page {
    events: JoinHandle<Vec<u8>>,
}

impl Page {
    async fn open(admin: SocketAddr) -> Self {
        let mut page = Peer::to(admin, None).await.unwrap();
        page.get("/events").await;
        page.until("\"standing\":\"running\"").await;
        let mut stream = page.into_stream();
        let events = tokio::spawn(async move {
            let mut all = Vec::new();
            // A reset is an end as well.
            let _ = stream.read_to_end(&mut all).await;
            all
        });
        Self { events }
    }

    /// How often it has been told of the drain.
    async fn looks(self) -> usize {
        let all = self.events.await.unwrap();
        let text = String::from_utf8_lossy(&all);
        text.matches("\"standing\":\"draining\"").count()
    }
}

fn deal(connections: Vec<Connection>, piles: usize) -> Vec<Vec<Connection>> {
    let mut dealt: Vec<Vec<Connection>> = (0..piles).map(|_| Vec::new()).collect();
    for (at, connection) in connections.into_iter().enumerate() {
        dealt[at % piles].push(connection);
    }
    dealt
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let (low, high) = ((of.len() - 1) / 2, of.len() / 2);
    f64::midpoint(of[low], of[high])
}

/// One after the other, and in turns: what else the machine does meets both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_is_looked_at_ends_as_well() {
    let (count, runs) = (asked("HANDOVER_IDLE", 200), asked("HANDOVER_RUNS", 1));
    if !may_open(count) {
        return;
    }
    let (mut alone, mut looked_at) = (Vec::new(), Vec::new());
    for run in 0..runs {
        // Nor is it always the same that comes first.
        for looked in [run % 2 == 0, run % 2 != 0] {
            let took = drain(count, looked).await;
            let of = if looked { &mut looked_at } else { &mut alone };
            of.push(took);
        }
    }
    let median_of = |all: &[Took], of: fn(&Took) -> f64| median(all.iter().map(of).collect());
    for (what, of) in [
        ("seconds", (|took: &Took| took.seconds) as fn(&Took) -> f64),
        ("processor seconds", |took: &Took| took.processor),
    ] {
        let (alone, looked_at) = (median_of(&alone, of), median_of(&looked_at, of));
        println!(
            "{count} connections, {runs} drains each: {what} {alone:.3} alone, {looked_at:.3} looked at, \
             ratio {:.3}",
            looked_at / alone
        );
    }
    println!(
        "load: {}",
        fs::read_to_string("/proc/loadavg").unwrap().trim()
    );
}
