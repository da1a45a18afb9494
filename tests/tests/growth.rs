//! The two hundredth generation has no more than the first that had a predecessor: no descriptor,
//! variable, zombie or byte.

mod support;

use std::time::Instant;

use handover_tests::{
    harness::{Belongings, Exit, Ready, Server, Signal, eventually, proc},
    load::{Connection, Target, get_on},
};

use self::support::{BOUND, Way, directory};

const UPGRADES: u64 = 200;
/// Connections that go along from generation to generation.
const CONNECTIONS: usize = 20;
/// Generations at either end whose memory is compared. Where threads and pages happen to be differs
/// from process to process by more than what is looked for.
const COMPARED: usize = 20;

/// Replaces the newest generation, and waits until the old one is gone and the new one has all.
async fn replaced(server: &Server, connections: &mut [Connection]) -> Ready {
    let old = server.newest();
    old.process.signal(Signal::HUP).unwrap();
    let new = server.ready(old.generation + 1, BOUND).await.unwrap();
    assert_eq!(old.process.exit(BOUND).await.unwrap(), Exit::Status(0));
    for connection in connections {
        let answer = get_on(connection, "/").await.unwrap();
        assert_eq!(answer.head.generation, Some(new.generation));
        assert!(!answer.head.close);
    }
    // It lets go of the channel once its predecessor is gone.
    let gone = format!("predecessor gone predecessor={}", old.pid());
    server.stderr_line(&gone, BOUND).await.unwrap();
    new
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_upgrades_leave_nothing() {
    let began = Instant::now();
    let (_kept, path) = directory();
    let server = Way::Axum
        .program()
        .args(["--probation", "0", "--keep-state", "100000", "--pid-file"])
        .arg(path("app.pid"))
        .arg("--listen")
        .arg(format!("local=unix:{}", path("app.sock").display()))
        .start()
        .await
        .unwrap();
    let to: Target = server.newest().first_target().unwrap();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(&to).await.unwrap());
    }
    for connection in &mut connections {
        get_on(connection, "/").await.unwrap();
    }
    let first = Belongings::of(replaced(&server, &mut connections).await.pid()).unwrap();
    assert!(first.descriptors["socket"] > CONNECTIONS, "{first:?}");
    let mut memory = Vec::new();
    for generation in 2..=UPGRADES {
        let newest = replaced(&server, &mut connections).await;
        assert_eq!(newest.generation, generation);
        memory.push(proc::anonymous_kib(newest.pid()).unwrap());
    }
    let newest = server.newest();
    let same = eventually("the same as at first", BOUND, async || {
        (Belongings::of(newest.pid()).ok()? == first).then_some(())
    });
    if same.await.is_err() {
        assert_eq!(Belongings::of(newest.pid()).unwrap(), first);
    }
    assert_eq!(server.processes().unwrap().len(), 1);
    let (begin, end) = (
        median(&memory[..COMPARED]),
        median(&memory[memory.len() - COMPARED..]),
    );
    println!(
        "{UPGRADES} upgrades in {:.1?}; {} descriptors; {begin} KiB of its own at first, {end} KiB in the end",
        began.elapsed(),
        first.open(),
    );
    assert!(end <= begin + begin / 20, "from {begin} to {end} KiB");
    drop(connections);
    assert!(server.terminate(BOUND).await.unwrap().is_success());
    // Neither the pid file nor the socket's, nor any that was written beside.
    assert_eq!(std::fs::read_dir(path("")).unwrap().count(), 0);
}

fn median(of: &[u64]) -> u64 {
    let mut of = of.to_vec();
    of.sort_unstable();
    of[of.len() / 2]
}
