//! Idle connections go from process to process, and clients see nothing of it.

mod support;

use std::{
    fs, io,
    time::{Duration, Instant},
};

use handover_tests::{
    harness::{Exit, Program, Server, Signal, established, eventually},
    load::{Answer, Clients, Config, Connection, Look, Storm, Target, get, get_on},
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use self::support::{BOUND, Peer, Way, directory, idle, listening, may_open};

/// No more than may be on their way at a time without an answer.
const LEAVING: usize = 120;

/// `at` is a socket's name in the ready line.
fn target(server: &Server, at: &str) -> Target {
    server.newest().target(at).unwrap()
}

async fn upgrade(server: &Server) -> u64 {
    let old = server.newest();
    old.process.signal(Signal::HUP).unwrap();
    let next = old.generation + 1;
    server.ready(next, BOUND).await.unwrap();
    next
}

async fn ask_all(connections: &mut [Connection]) -> Vec<Option<Answer>> {
    let mut answers = Vec::new();
    for connection in connections {
        answers.push(get_on(connection, "/").await.ok());
    }
    answers
}

fn answered_by(answers: &[Option<Answer>], generation: u64) -> usize {
    let by = |answer: &&Answer| answer.head.generation == Some(generation);
    answers.iter().flatten().filter(by).count()
}

/// A server that goes as soon as nothing is left with it.
fn program() -> Program {
    program_on("127.0.0.1:0")
}

fn program_on(at: &str) -> Program {
    listening(Way::Axum.path(), at).args(["--probation", "0"])
}

/// How many connections each of so many reports says were moved.
async fn moved(server: &Server, reports: usize) -> Vec<usize> {
    let moved = |line: &str| {
        let (before, _) = line.split_once(" moved")?;
        before.rsplit(' ').next()?.parse().ok()
    };
    // A process may be gone before its last line has been read.
    eventually("the reports", BOUND, async || {
        let lines = server.stderr().into_iter();
        let lines: Vec<_> = lines.filter(|line| line.contains("drained in")).collect();
        let each = lines.iter().map(|line| moved(line).unwrap_or_default());
        (lines.len() >= reports).then(|| each.collect())
    })
    .await
    .unwrap()
}

async fn upgrades_lose_nothing(at: &str) {
    const UPGRADES: u64 = 10;
    let server = program_on(at).start().await.unwrap();
    let to = target(&server, at);
    let mut first = idle(&to, 3).await;
    let mut clients = Clients::none();
    clients.keepalive = 16;
    clients.idle = 64;
    clients.fresh = 2;
    let mut config = Config::new(to).with_clients(clients);
    config.rtt = Duration::from_millis(10);
    let storm = Storm::start(config);
    for generation in 1..=UPGRADES {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let old = server.newest();
        let mark = storm.mark(generation);
        upgrade(&server).await;
        // Although so many are idle.
        let exit = old.process.exit(Duration::from_secs(5)).await.unwrap();
        assert_eq!(exit, Exit::Status(0));
        storm.gone(mark);
    }
    let report = storm.stop().await;
    assert_eq!(report.lost(), 0, "{report}");
    assert_eq!(report.told(), 0, "{report}");
    assert_eq!(report.found_closed(), 0, "{report}");
    assert_eq!(report.restarts_taken() as u64, UPGRADES, "{report}");
    let answers = ask_all(&mut first).await;
    assert_eq!(answered_by(&answers, UPGRADES), 3, "{answers:?}");
    let moved = moved(&server, UPGRADES as usize).await;
    // All but those that had not connected yet.
    assert!(moved.iter().all(|n| (60..=85).contains(n)), "{moved:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_upgrades_over_tcp() {
    upgrades_lose_nothing("127.0.0.1:0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_upgrades_over_tcp_v6() {
    upgrades_lose_nothing("[::1]:0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_upgrades_over_a_unix_socket() {
    let (_directory, path) = directory();
    upgrades_lose_nothing(&format!("unix:{}", path("socket").display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_moving_clients_are_told() {
    let program = program().arg("--no-move");
    let server = program.start().await.unwrap();
    let to = target(&server, "127.0.0.1:0");
    let clients = Clients::persistent(32);
    let mut config = Config::new(to).with_clients(clients);
    config.rtt = Duration::from_millis(10);
    let storm = Storm::start(config);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        upgrade(&server).await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let report = storm.stop().await;
    assert_eq!(report.lost(), 0, "{report}");
    assert!(report.told() > 0, "{report}");
    assert!(moved(&server, 1).await.iter().all(|n| *n == 0));
}

/// A server whose next generation says that it serves, and does not: what it is given it keeps for
/// a moment before it refuses.
async fn with_a_faulty_next(program: Program) -> (tempfile::TempDir, Server) {
    let (directory, path) = directory();
    let fault = path("fault");
    let server = program.arg("--fault-file").arg(&fault).start().await;
    fs::write(fault, "hang-after-ready").unwrap();
    (directory, server.unwrap())
}

/// Descriptors that lie in the queues of a process's Unix sockets.
fn queued(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let count = |entry: io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry.ok()?.path()).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("scm_fds:"))?;
        line.trim().parse::<usize>().ok()
    };
    entries.filter_map(count).sum()
}

/// Waits until a process has, or could take from its channel, so many connections.
async fn has_been_sent(pid: u32, count: usize) {
    eventually("all connections to be sent", BOUND, async || {
        // What is taken between the two counts must not be in both.
        let taken = established(pid).unwrap();
        (queued(pid) + taken >= count).then_some(())
    })
    .await
    .unwrap();
}

async fn come_back_when_the_successor_gets(signal: Signal) {
    let program = program().args(["--move-timeout", "0.6"]);
    let (_directory, server) = with_a_faulty_next(program).await;
    let to = target(&server, "127.0.0.1:0");
    let mut connections = idle(&to, 200).await;
    upgrade(&server).await;
    let next = server.newest();
    // So many leave before the first is answered for; the others are served here all the time.
    has_been_sent(next.pid(), LEAVING).await;
    next.process.signal(signal).unwrap();
    server.stderr_line("serving again", BOUND).await.unwrap();
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 0), 200);
    assert!(answers.iter().flatten().all(|answer| !answer.head.close));
    assert_eq!(get(&to, "/").await.unwrap().head.generation, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_successor_leaves_what_it_had_not_claimed() {
    come_back_when_the_successor_gets(Signal::KILL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_successor_is_killed_and_leaves_what_it_had_not_claimed() {
    come_back_when_the_successor_gets(Signal::STOP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_serves_nothing_refuses_and_clients_are_told() {
    let (_directory, server) = with_a_faulty_next(program()).await;
    let to = target(&server, "127.0.0.1:0");
    let mut connections = idle(&to, 100).await;
    upgrade(&server).await;
    has_been_sent(server.newest().pid(), 100).await;
    let began = Instant::now();
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 0), 100);
    assert!(answers.iter().flatten().all(|answer| answer.head.close));
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// Killed at any moment while everything moves, a successor takes along what it has claimed, and a
/// predecessor what it has not sent. Nothing hangs, and somebody serves.
async fn killed_meanwhile(successor: bool) {
    for sent in [0, 80, 200] {
        let server = program().start().await.unwrap();
        let to = target(&server, "127.0.0.1:0");
        let mut connections = idle(&to, 300).await;
        let old = server.newest();
        upgrade(&server).await;
        let next = server.newest();
        let (dies, lives) = match successor {
            true => (&next, 0),
            false => (&old, 1),
        };
        has_been_sent(next.pid(), sent).await;
        let killed = dies.process.signal(Signal::KILL);
        let _ = dies.process.exit(BOUND).await;
        if successor {
            // Unless the predecessor had gone: that is a hand-over, and then a crash.
            let resumed = server.stderr_line("serving again", BOUND).await;
            if resumed.is_err() {
                assert!(!old.process.is_running());
                continue;
            }
        } else if killed.is_ok() {
            server.stderr_line("predecessor gone", BOUND).await.unwrap();
        }
        let answers = ask_all(&mut connections).await;
        let served = answered_by(&answers, lives);
        assert_eq!(served, answers.iter().flatten().count());
        // What was not answered is closed: nobody has forgotten it.
        for (answer, connection) in answers.iter().zip(&mut connections) {
            if answer.is_none() {
                assert_eq!(connection.last_look().await, Look::Closed);
            }
        }
        println!("killed successor {successor}: {served} of 300 live on");
        assert_eq!(get(&to, "/").await.unwrap().head.generation, Some(lives));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_killed_meanwhile() {
    killed_meanwhile(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_predecessor_killed_meanwhile() {
    killed_meanwhile(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_heir_serves_what_lies_in_the_channel() {
    let server = program().start().await.unwrap();
    let to = target(&server, "127.0.0.1:0");
    let mut connections = idle(&to, LEAVING).await;
    let old = server.newest();
    upgrade(&server).await;
    let heir = server.newest();
    heir.process.signal(Signal::STOP).unwrap();
    has_been_sent(heir.pid(), LEAVING).await;
    let _ = old.process.signal(Signal::KILL);
    old.process.exit(BOUND).await.unwrap();
    heir.process.signal(Signal::CONT).unwrap();
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 1), LEAVING);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_successor_has_no_descriptors_for_stays() {
    let program = program().args(["--ready-delay", "0.5"]);
    let server = program.start().await.unwrap();
    let to = target(&server, "127.0.0.1:0");
    let mut connections = idle(&to, 300).await;
    let old = server.newest();
    old.process.signal(Signal::HUP).unwrap();
    server
        .stderr_line("successor starting", BOUND)
        .await
        .unwrap();
    let next = eventually("the successor", BOUND, async || {
        let processes = server.processes().unwrap();
        let mut others = processes.iter().filter(|stat| stat.pid != old.pid());
        others.next().map(|stat| stat.pid)
    });
    let next = next.await.unwrap();
    let limit = Rlimit {
        current: Some(64),
        maximum: Some(64),
    };
    let pid = Pid::from_raw(next.try_into().unwrap());
    prlimit(pid, Resource::Nofile, limit).unwrap();
    server.ready(1, BOUND).await.unwrap();
    let answers = ask_all(&mut connections).await;
    let (stayed, went) = (answered_by(&answers, 0), answered_by(&answers, 1));
    assert_eq!(stayed + went, 300);
    assert!((20..64).contains(&went), "{went}");
    // All but those that were asked before they were offered: answered as ever, and offered after
    // that; by now there may be room for one.
    let (told, untold): (Vec<_>, Vec<_>) = connections
        .into_iter()
        .zip(answers.iter().flatten())
        .filter(|(_, answer)| answer.head.generation == Some(0))
        .partition(|(_, answer)| answer.head.close);
    assert!(told.len() > untold.len(), "{} untold", untold.len());
    let mut untold: Vec<_> = untold.into_iter().map(|(asked, _)| asked).collect();
    let again = ask_all(&mut untold).await;
    assert_eq!(again.iter().flatten().count(), untold.len());
    let went = went + answered_by(&again, 1);
    assert_eq!(old.process.exit(BOUND).await.unwrap(), Exit::Status(0));
    assert_eq!(moved(&server, 1).await, [went]);
}

/// More of a head than one message carries is finished here, and its client told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_much_read_ahead_stays_and_says_why() {
    let server = program().start().await.unwrap();
    let mut peer = Peer::connect(&server).await;
    let half = format!(
        "GET / HTTP/1.1\r\nhost: x\r\ncookie: {}",
        "x".repeat(40_000)
    );
    peer.send(&half).await;
    peer.taken().await;
    upgrade(&server).await;
    // It has been asked to move, and cannot.
    server.stderr_line("draining", BOUND).await.unwrap();
    peer.send("\r\n\r\n").await;
    let answer = peer.until("ok\n").await;
    assert!(answer.contains("x-generation: 0"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let report = server.stderr_line("drained in", BOUND).await.unwrap();
    assert!(
        report.contains("; 1 stayed: 1 too much read ahead"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_axums_own_loop_has_stays_and_is_counted() {
    let server = Way::Foreign.program().args(["--probation", "0"]);
    let server = server.start().await.unwrap();
    let to = target(&server, "127.0.0.1:0");
    let mut connections = idle(&to, 10).await;
    upgrade(&server).await;
    // Told by the layer; then it is over.
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 0), 10);
    assert!(answers.iter().flatten().all(|answer| answer.head.close));
    let report = server.stderr_line("drained in", BOUND).await.unwrap();
    assert!(
        report.contains("; 10 stayed: 10 in the framework's loop"),
        "{report}"
    );
}

/// As many as `HANDOVER_IDLE` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_idle_connections_move_at_once() {
    let count = std::env::var("HANDOVER_IDLE").ok();
    let count = count.and_then(|n| n.parse().ok()).unwrap_or(2000);
    if !may_open(count) {
        return;
    }
    let server = program().start().await.unwrap();
    let to = target(&server, "127.0.0.1:0");
    let mut connections = idle(&to, count).await;
    let old = server.newest();
    let asked = Instant::now();
    upgrade(&server).await;
    let began = Instant::now();
    old.process.exit(BOUND).await.unwrap();
    let gone = began.elapsed();
    println!(
        "{count} idle: ready after {:?}, old process gone {gone:?} later",
        began - asked
    );
    assert_eq!(moved(&server, 1).await, [count]);
    assert!(gone < Duration::from_secs(10), "{gone:?}");
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 1), count);
    println!("{}", server.stderr_line("drained in", BOUND).await.unwrap());
}
