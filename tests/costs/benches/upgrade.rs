//! An upgrade, from the signal to the first answer of the successor, and how long nobody was answered
//! meanwhile: with 1, 100 and 4,000 listening sockets, by Handover and by ecdysis.
//!
//! Real processes under clients that connect for each request. `HANDOVER_UPGRADES=50` in the
//! environment is for so many upgrades of each; 10 by default.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use handover_costs::{
    table::{Table, median},
    upgraded::{Times, now, open_many},
};
use handover_tests::{
    harness::{Program, Server, Signal, eventually},
    load::{Target, get},
};
use tokio::task::JoinSet;

const HANDOVER: &str = env!("CARGO_BIN_EXE_upgraded-handover");
const ECDYSIS: &str = env!("CARGO_BIN_EXE_upgraded-ecdysis");
const BOUND: Duration = Duration::from_secs(60);
/// Clients that connect for each request.
const CLIENTS: usize = 2;
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_micros(200);
/// For how long they are looked at while nothing happens.
const QUIET: Duration = Duration::from_millis(300);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    open_many()?;
    let upgrades = match std::env::var("HANDOVER_UPGRADES") {
        Ok(count) => count.parse().context("HANDOVER_UPGRADES")?,
        Err(_) => 10,
    };
    for sockets in [1, 100, 4_000] {
        let ours = upgrades_of(HANDOVER, sockets, upgrades).await?;
        let theirs = upgrades_of(ECDYSIS, sockets, upgrades).await?;
        let title = |what: &str| format!("upgrade with {sockets} sockets: {what}");
        let mut table = Table::new(title("signal to first answer"), "ms");
        table.push("floor/a process that does nothing", ours.start);
        table.push("handover", ours.answered);
        table.push("ecdysis", theirs.answered);
        table.publish()?;
        let mut table = Table::new(title("longest time without an answer"), "ms");
        table.push("floor/without an upgrade", ours.quiet.max(theirs.quiet));
        table.push("handover", ours.hole);
        table.push("ecdysis", theirs.hole);
        table.publish()?;
        for (name, all) in [("handover", ours), ("ecdysis", theirs)] {
            let mut table = Table::new(title(&format!("where {name} spends it")), "ms");
            table.push("the whole", all.answered);
            table.push("signal to main", all.began);
            table.push("of which a process that does nothing", all.start);
            table.push("main to ready", all.ready);
            table.push("its own", all.answered - all.start);
            table.publish()?;
        }
    }
    Ok(())
}

/// Medians, in milliseconds.
#[derive(Clone, Copy)]
struct Took {
    /// Starting the program, when it is to do nothing.
    start: f64,
    /// From the signal until the successor's `main` began.
    began: f64,
    /// From there until it was ready.
    ready: f64,
    /// From the signal until it had answered.
    answered: f64,
    /// The longest time without an answer around it.
    hole: f64,
    /// The same before the signal.
    quiet: f64,
}

async fn upgrades_of(program: &str, sockets: usize, upgrades: u64) -> anyhow::Result<Took> {
    let starts = (0..2 * upgrades).map(|_| start_of_nothing(program));
    let starts: Vec<f64> = starts.collect::<anyhow::Result<_>>()?;
    let directory = tempfile::tempdir()?;
    let server = Program::new(Path::new(program))
        .arg(sockets.to_string())
        .arg(directory.path().join("state"))
        .ready_within(BOUND)
        .start()
        .await?;
    let mut all = Vec::new();
    for _ in 0..upgrades {
        all.push(upgrade(&server).await?);
    }
    server.terminate(BOUND).await?;
    let median = |of: fn(&Took) -> f64| middle(all.iter().map(of).collect());
    Ok(Took {
        start: middle(starts),
        began: median(|took| took.began),
        ready: median(|took| took.ready),
        answered: median(|took| took.answered),
        hole: median(|took| took.hole),
        quiet: median(|took| took.quiet),
    })
}

async fn upgrade(server: &Server) -> anyhow::Result<Took> {
    let old = server.newest();
    let clients = Clients::start(old.first_target()?);
    tokio::time::sleep(QUIET).await;
    let signalled = now();
    old.process.signal(Signal::HUP)?;
    let new = server.ready(old.generation + 1, BOUND).await?;
    let first = eventually("an answer of the successor", BOUND, async || {
        clients.first_of(new.pid())
    });
    let first = first.await?;
    old.process.exit(BOUND).await?;
    let answers = clients.stop().await?;
    let times = Times::of(new.pid(), &server.stdout())?;
    let millis = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() * 1e3;
    let (before, after): (Vec<_>, Vec<_>) = answers
        .iter()
        .map(|(at, _)| *at)
        .partition(|at| *at < signalled);
    // The gap that the signal fell into is of the upgrade.
    let after: Vec<_> = before.last().copied().into_iter().chain(after).collect();
    Ok(Took {
        start: 0.0,
        began: millis(signalled, times.began),
        ready: millis(times.began, times.ready),
        answered: millis(signalled, first),
        hole: longest(&after),
        quiet: longest(&before),
    })
}

/// How long it takes until `main` of a program that does nothing else, from here.
fn start_of_nothing(program: &str) -> anyhow::Result<f64> {
    let before = now();
    let output = Command::new(program).stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8(output.stdout)?;
    let began = said.trim().strip_prefix("began=").context("no time")?;
    let began = Duration::from_nanos(began.parse()?);
    Ok(began.saturating_sub(before).as_secs_f64() * 1e3)
}

/// Answers, in their order: when, and by which process.
type Answers = Vec<(Duration, u32)>;

struct Clients {
    answers: Arc<Mutex<Answers>>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<anyhow::Result<()>>,
}

impl Clients {
    fn start(to: Target) -> Self {
        let (answers, stop) = (Arc::default(), Arc::default());
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(ask(to.clone(), Arc::clone(&answers), Arc::clone(&stop)));
        }
        Self {
            answers,
            stop,
            clients,
        }
    }

    fn first_of(&self, pid: u32) -> Option<Duration> {
        let answers = self.answers.lock().expect("nobody panics");
        answers.iter().find(|(_, by)| *by == pid).map(|(at, _)| *at)
    }

    /// Every request was answered.
    async fn stop(mut self) -> anyhow::Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client??;
        }
        let mut answers = self.answers.lock().expect("nobody panics").clone();
        answers.sort_unstable();
        Ok(answers)
    }
}

async fn ask(
    to: Target,
    answers: Arc<Mutex<Answers>>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let answer = get(&to, "/").await?;
        ensure!(answer.head.status == 200, "{:?}", answer.head);
        let pid = answer.head.pid.context("an answer without a name")?;
        answers.lock().expect("nobody panics").push((now(), pid));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// The longest time between two of these, in milliseconds.
fn longest(times: &[Duration]) -> f64 {
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default().as_secs_f64() * 1e3
}

fn middle(samples: Vec<f64>) -> f64 {
    median(samples).expect("something was measured")
}
