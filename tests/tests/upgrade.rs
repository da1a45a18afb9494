//! SIGHUP replaces a real server by its successor, and nobody notices.

mod support;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use handover_tests::{
    harness::{Exit, Program, Ready, Server, Signal, eventually, proc},
    load::{Clients, Config, Report, Storm, Target},
    tls::Certificates,
};
use tokio::{task::JoinSet, time::sleep};

use self::support::{BOUND, Peer, Way, answers, directory, listening, over_tls};

/// Sends SIGHUP, and waits for the successor, and for the predecessor to drain. A framework's own loop
/// may accept for another moment.
async fn upgrade(server: &Server) -> Ready {
    let newest = server.newest();
    newest.process.signal(Signal::HUP).unwrap();
    let ready = server.ready(newest.generation + 1, BOUND).await.unwrap();
    let said = format!("successor={}", ready.pid());
    eventually("the predecessor to drain", BOUND, async || {
        let mut lines = server.stderr().into_iter();
        lines.find(|line| line.contains("successor serves") && line.contains(&said))
    })
    .await
    .unwrap();
    ready
}

/// A generation that ends before its own predecessor tells that its status, not us.
fn ended_well(exit: Exit) {
    assert!(matches!(exit, Exit::Status(0) | Exit::Unknown), "{exit}");
}

/// Ends the service, which leaves nothing.
async fn is_gone(server: &Server) {
    let mut generations = server.generations();
    generations.pop();
    for older in generations {
        let exit = older.process.exit(BOUND).await.unwrap();
        ended_well(exit);
    }
    let exit = server.terminate(BOUND).await.unwrap();
    assert_eq!(exit, Exit::Status(0));
    let left = server.processes().unwrap();
    assert!(left.is_empty(), "{left:?}");
}

/// The pid in a pid file.
fn pid_in(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

async fn names(path: &Path, ready: &Ready) {
    let what = format!("pid {} in the pid file", ready.pid());
    let right = eventually(&what, BOUND, async || {
        (pid_in(path) == Some(ready.pid())).then_some(())
    });
    right.await.unwrap();
}

// ===== under load =====

const UPGRADES: u64 = 5;

async fn upgraded_under_load(
    program: Program,
    target: impl FnOnce(SocketAddr) -> Target,
    rtt: Duration,
) -> Report {
    let server = program.start().await.unwrap();
    let mut clients = Clients::none();
    clients.keepalive = 4;
    clients.idle = 12;
    clients.fresh = 3;
    clients.dribble = 3;
    clients.slow = 2;
    clients.stream = 1;
    clients.upload = 1;
    let target = target(server.newest().tcp().unwrap());
    let mut config = Config::new(target).with_clients(clients);
    config.rtt = rtt;
    config.slow = Duration::from_millis(400);
    config.stream = Duration::from_millis(700);
    config.upload = Duration::from_millis(400);
    // Busy, but not so that the servers of the other tests starve.
    config.keepalive_pause = Duration::from_millis(5);
    config.fresh_pause = Duration::from_millis(10);
    let storm = Storm::start(config);
    let mut leaving = JoinSet::new();
    for generation in 1..=UPGRADES {
        sleep(Duration::from_millis(500)).await;
        let old = server.newest().process;
        let mark = storm.mark(generation);
        let new = upgrade(&server).await;
        assert_eq!(new.generation, generation);
        leaving.spawn(async move { (mark, old.exit(BOUND).await.unwrap(), Instant::now()) });
    }
    while let Some(left) = leaving.join_next().await {
        let (mark, exit, at) = left.unwrap();
        ended_well(exit);
        storm.gone_at(mark, at.into());
    }
    let report = storm.stop().await;
    is_gone(&server).await;
    report
}

async fn loses_nothing(program: Program, target: impl FnOnce(SocketAddr) -> Target, rtt: Duration) {
    let report = upgraded_under_load(program, target, rtt).await;
    assert_eq!(report.lost(), 0, "{report}");
    assert_eq!(report.restarts_taken() as u64, UPGRADES, "{report}");
    // One process to a number.
    assert!(report.generations.iter().all(|seen| seen.pids.len() == 1));
    println!("{report}");
}

async fn upgrades_lose_nothing(way: Way) {
    loses_nothing(way.program(), Target::Tcp, Duration::ZERO).await;
}

async fn upgrades_lose_nothing_on_a_network(way: Way) {
    loses_nothing(way.program(), Target::Tcp, Duration::from_millis(10)).await;
}

async fn upgrades_lose_nothing_over_tls(way: Way) {
    let certificates = Certificates::new().unwrap();
    let client = certificates.client().unwrap();
    let program = over_tls(way.program(), &certificates);
    let target = |address| Target::Tls(address, client);
    loses_nothing(program, target, Duration::from_millis(10)).await;
}

// ===== what passes on =====

async fn every_socket_keeps_its_name_and_address(way: Way) {
    let (_kept, path) = directory();
    let pid_file = path("app.pid");
    let server = listening(way.path(), "127.0.0.1:0")
        .args(["--listen", "[::1]:0", "--listen", "extra=127.0.0.1:0"])
        .arg("--listen")
        .arg(format!("local=unix:{}", path("app.socket").display()))
        .arg("--pid-file")
        .arg(&pid_file)
        .start()
        .await
        .unwrap();
    let first = server.newest();
    let mut last = first.clone();
    for generation in 0..=3 {
        assert_eq!(last.generation, generation);
        assert_eq!(last.sockets, first.sockets);
        assert_eq!(last.sockets.len(), 4, "{:?}", last.sockets);
        names(&pid_file, &last).await;
        for (name, _) in &first.sockets {
            answers(&last.target(name).unwrap(), &last).await;
        }
        if generation < 3 {
            let old = std::mem::replace(&mut last, upgrade(&server).await);
            let exit = old.process.exit(BOUND).await.unwrap();
            assert_eq!(exit, Exit::Status(0));
        }
    }
    is_gone(&server).await;
    assert!(!pid_file.exists());
    assert!(!path("app.socket").exists());
}

async fn two_signals_in_a_row(way: Way) {
    let server = way.program().start().await.unwrap();
    let process = server.newest().process;
    process.signal(Signal::HUP).unwrap();
    process.signal(Signal::HUP).unwrap();
    let second = server.ready(1, BOUND).await.unwrap();
    assert_eq!(process.exit(BOUND).await.unwrap(), Exit::Status(0));
    // One upgrade came of both, and the next is not refused.
    assert_eq!(server.newest().pid(), second.pid());
    assert_eq!(upgrade(&server).await.generation, 2);
    is_gone(&server).await;
}

async fn told_to_stop_during_an_upgrade(way: Way) {
    let (_kept, path) = directory();
    let program = way.program().args(["--ready-delay", "0.7", "--pid-file"]);
    let server = program.arg(path("app.pid")).start().await.unwrap();
    let process = server.newest().process;
    process.signal(Signal::HUP).unwrap();
    server
        .stderr_line("successor starting", BOUND)
        .await
        .unwrap();
    let exit = server.terminate(BOUND).await.unwrap();
    assert_eq!(exit, Exit::Status(0));
    assert_eq!(server.generations().len(), 1, "the stop did not win");
    // The successor was killed, and may still have to be reaped.
    eventually("nobody to be left", BOUND, async || {
        let left = server.processes().unwrap();
        left.iter().all(proc::Stat::is_zombie).then_some(())
    })
    .await
    .unwrap();
    assert!(!path("app.pid").exists());
}

/// The service ends, although its predecessor has not even heard yet that the successor serves.
async fn told_to_stop_right_after_an_upgrade(way: Way) {
    for _ in 0..10 {
        let server = way.program().start().await.unwrap();
        server.first().signal(Signal::HUP).unwrap();
        server.ready(1, BOUND).await.unwrap();
        let bound = Duration::from_secs(5);
        server.terminate(bound).await.unwrap();
        assert_eq!(server.first().try_exit(), Some(Exit::Status(0)));
        assert_eq!(server.processes().unwrap(), []);
    }
}

// ===== what is started =====

async fn a_program_that_was_replaced(way: Way) {
    let (_kept, path) = directory();
    let program = path("server");
    fs::copy(way.path(), &program).unwrap();
    let server = listening(&program, "127.0.0.1:0").start().await.unwrap();
    let inode = |ready: &Ready| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(format!("/proc/{}/exe", ready.pid()))
            .unwrap()
            .ino()
    };
    let first = inode(&server.newest());
    fs::copy(way.path(), path("new")).unwrap();
    fs::rename(path("new"), &program).unwrap();
    let second = inode(&upgrade(&server).await);
    assert_ne!(first, second, "the file that is there now was not taken");
    is_gone(&server).await;
}

async fn a_link_that_was_moved(way: Way) {
    let (_kept, path) = directory();
    for release in ["one", "two"] {
        fs::create_dir(path(release)).unwrap();
        fs::copy(way.path(), path(release).join("server")).unwrap();
    }
    symlink(path("one"), path("current")).unwrap();
    let program = path("current").join("server");
    let server = listening(&program, "127.0.0.1:0").start().await.unwrap();
    let runs = |ready: &Ready| fs::read_link(format!("/proc/{}/exe", ready.pid())).unwrap();
    assert_eq!(runs(&server.newest()), path("one").join("server"));
    symlink(path("two"), path("next")).unwrap();
    fs::rename(path("next"), path("current")).unwrap();
    let second = upgrade(&server).await;
    assert_eq!(runs(&second), path("two").join("server"));
    is_gone(&server).await;
}

// ===== what must not grow =====

/// What a process has open, without the numbers that differ from process to process.
fn open_files(ready: &Ready) -> Vec<String> {
    let mut kinds: Vec<String> = proc::descriptors(ready.pid())
        .unwrap()
        .into_iter()
        .map(|(_, target)| target.to_string_lossy().into_owned())
        .map(|target| match target.split_once(":[") {
            Some((kind, _)) => kind.to_owned(),
            None => target,
        })
        .collect();
    kinds.sort_unstable();
    kinds
}

/// Its environment, without the values that name its predecessor and descriptors.
fn environment(ready: &Ready) -> Vec<(String, String)> {
    let mut variables = proc::environment(ready.pid()).unwrap();
    for (name, value) in &mut variables {
        if name.starts_with("HANDOVER_") {
            value.clear();
        }
    }
    variables.sort_unstable();
    variables
}

async fn nothing_grows_over_twenty_upgrades(way: Way) {
    let server = way.program().start().await.unwrap();
    let mut files = Vec::new();
    let mut variables = Vec::new();
    for generation in 1..=20 {
        let old = server.newest().process;
        let new = upgrade(&server).await;
        assert_eq!(old.exit(BOUND).await.unwrap(), Exit::Status(0));
        if generation == 1 {
            // It lets go of its predecessor once that has gone.
            server.stderr_line("predecessor gone", BOUND).await.unwrap();
            files = open_files(&new);
            variables = environment(&new);
            assert!(files.len() > 5, "{files:?}");
        }
    }
    let newest = server.newest();
    let as_many = eventually("no more descriptors than at first", BOUND, async || {
        (open_files(&newest).len() <= files.len()).then_some(())
    });
    if as_many.await.is_err() {
        assert_eq!(open_files(&newest), files);
    }
    assert_eq!(environment(&newest), variables);
    assert_eq!(proc::zombies(newest.pid()).unwrap(), []);
    assert_eq!(server.processes().unwrap().len(), 1);
    is_gone(&server).await;
}

/// A connection of this generation, the newest: for a moment the one before may accept, too.
async fn accepted_by(server: &Server, generation: u64) -> Peer {
    let by = format!("x-generation: {generation}\r\n");
    eventually("the newest to accept", BOUND, async || {
        let mut peer = Peer::connect(server).await;
        peer.get("/").await;
        let answer = peer.until("ok\n").await;
        answer.contains(&by).then_some(peer)
    })
    .await
    .unwrap()
}

/// An old generation that still has work does not keep the service from going on.
async fn generations_overlap(way: Way) {
    let server = way.program().start().await.unwrap();
    let mut slow = Vec::new();
    for generation in 0..3 {
        let mut peer = accepted_by(&server, generation).await;
        peer.get("/slow?ms=3000").await;
        peer.taken().await;
        slow.push((peer, generation));
        upgrade(&server).await;
    }
    for (mut peer, generation) in slow {
        let answer = peer.until("ok\n").await;
        let by = format!("x-generation: {generation}\r\n");
        assert!(answer.contains(&by), "{answer}");
        match way.is_foreign() {
            // It moves on, from generation to generation, as soon as it is answered.
            false => {
                assert!(!answer.contains("connection: close"), "{answer}");
                peer.get("/").await;
                let answer = peer.until("ok\n").await;
                assert!(answer.contains("x-generation: 3\r\n"), "{answer}");
            }
            true => {
                assert!(answer.contains("connection: close\r\n"), "{answer}");
                assert_eq!(peer.end().await, (String::new(), true));
            }
        }
    }
    is_gone(&server).await;
}

/// A first start in a directory of its own by a relative name, and a relative pid file.
async fn relative_names_are_taken_from_the_start(way: Way) {
    let (kept, path) = directory();
    fs::copy(way.path(), path("server")).unwrap();
    let server = Program::new("./server")
        .directory(kept.path())
        .args(["--workers", "2", "--listen", "unix:app.socket"])
        .args(["--pid-file", "app.pid"])
        .start()
        .await
        .unwrap();
    let second = upgrade(&server).await;
    names(&path("app.pid"), &second).await;
    answers(&Target::Unix(path("app.socket")), &second).await;
    is_gone(&server).await;
    assert!(!path("app.pid").exists() && !path("app.socket").exists());
}

for_each_server! {
    upgrades_lose_nothing,
    upgrades_lose_nothing_on_a_network,
    every_socket_keeps_its_name_and_address,
    told_to_stop_right_after_an_upgrade,
    generations_overlap,
}

mod over_tls {
    use super::*;

    for_each_acceptor! { upgrades_lose_nothing_over_tls }
}

// It has threads of its own.
for_server! { ref_actix_web_grows ActixWeb nothing_grows_over_twenty_upgrades }

for_either_loop! {
    two_signals_in_a_row,
    told_to_stop_during_an_upgrade,
    a_program_that_was_replaced,
    a_link_that_was_moved,
    nothing_grows_over_twenty_upgrades,
    relative_names_are_taken_from_the_start,
}
