//! While the probation runs, idle connections outlive a successor that dies.

mod support;

use std::time::Duration;

use handover_tests::{
    harness::{Exit, Program, Ready, Server, Signal, established, eventually},
    load::{Answer, Connection, get, get_on},
};

use self::support::{BOUND, Way, idle, listening};

/// Longer than a test.
const FOR_EVER: &str = "60";

fn program(probation: &str) -> Program {
    listening(Way::Axum.path(), "127.0.0.1:0").args(["--probation", probation])
}

async fn upgrade(server: &Server) -> (Ready, Ready) {
    let old = server.newest();
    old.process.signal(Signal::HUP).unwrap();
    let new = server.ready(old.generation + 1, BOUND).await.unwrap();
    (old, new)
}

/// Waits until the successor has them all.
async fn given(new: &Ready, count: usize) {
    eventually("the connections to be given", BOUND, async || {
        (established(new.pid()).unwrap() >= count).then_some(())
    })
    .await
    .unwrap();
}

async fn ask_all(connections: &mut [Connection]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for connection in connections {
        answers.push(get_on(connection, "/").await.unwrap());
    }
    answers
}

fn answered_by(answers: &[Answer], generation: u64) -> usize {
    let by = |answer: &&Answer| answer.head.generation == Some(generation);
    answers.iter().filter(by).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_dies_young_takes_no_idle_connection_along() {
    let server = program(FOR_EVER).start().await.unwrap();
    let to = server.newest().first_target().unwrap();
    let mut connections = idle(&to, 200).await;
    let (old, new) = upgrade(&server).await;
    given(&new, 200).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    new.process.signal(Signal::KILL).unwrap();
    server.stderr_line("serving again", BOUND).await.unwrap();
    for _ in 0..2 {
        // Each answer is complete, and there is nothing behind it: nobody else has read anything.
        let answers = ask_all(&mut connections).await;
        assert_eq!(answered_by(&answers, 0), 200);
        assert!(answers.iter().all(|answer| !answer.head.close));
    }
    // The next successor gets the same ones.
    old.process.signal(Signal::HUP).unwrap();
    let next = eventually("another successor", BOUND, async || {
        let newest = server.newest();
        (newest.pid() != new.pid()).then_some(newest)
    });
    given(&next.await.unwrap(), 200).await;
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 1), 200);
    assert!(old.process.is_running(), "its probation is not over");
}

/// What the default is for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eager_successor_that_dies_takes_along_what_it_was_given() {
    let program = program(FOR_EVER).arg("--eager-adoption");
    let server = program.start().await.unwrap();
    let to = server.newest().first_target().unwrap();
    let mut connections = idle(&to, 100).await;
    let (old, new) = upgrade(&server).await;
    given(&new, 100).await;
    eventually("the claims", BOUND, async || {
        (established(old.pid()).unwrap() == 0).then_some(())
    })
    .await
    .unwrap();
    new.process.signal(Signal::KILL).unwrap();
    server.stderr_line("serving again", BOUND).await.unwrap();
    for connection in &mut connections {
        assert!(get_on(connection, "/").await.is_err());
    }
}

/// Those that were asked in the meantime are the successor's, and go with it; no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_is_the_successors_and_all_else_is_not() {
    let server = program(FOR_EVER).start().await.unwrap();
    let to = server.newest().first_target().unwrap();
    let mut connections = idle(&to, 100).await;
    let (_, new) = upgrade(&server).await;
    given(&new, 100).await;
    let answers = ask_all(&mut connections[..30]).await;
    assert_eq!(answered_by(&answers, 1), 30);
    new.process.signal(Signal::KILL).unwrap();
    server.stderr_line("serving again", BOUND).await.unwrap();
    for connection in &mut connections[..30] {
        assert!(get_on(connection, "/").await.is_err());
    }
    let answers = ask_all(&mut connections[30..]).await;
    assert_eq!(answered_by(&answers, 0), 70);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_of_the_probation_all_are_the_successors() {
    let server = program("1").start().await.unwrap();
    let to = server.newest().first_target().unwrap();
    let mut connections = idle(&to, 200).await;
    let (old, new) = upgrade(&server).await;
    let exit = old.process.exit(BOUND).await.unwrap();
    assert_eq!(exit, Exit::Status(0));
    let report = server.stderr_line("drained in", BOUND).await.unwrap();
    assert!(report.contains("; 200 moved"), "{report}");
    assert!(!report.contains("stayed"), "{report}");
    assert_eq!(established(new.pid()).unwrap(), 200);
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 1), 200);
}

/// The deadline comes before the probation is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_deadline_all_are_the_successors() {
    let program = program(FOR_EVER).args(["--upgrade-deadline", "3"]);
    let server = program.start().await.unwrap();
    let to = server.newest().first_target().unwrap();
    let mut connections = idle(&to, 50).await;
    let (old, _) = upgrade(&server).await;
    old.process.exit(BOUND).await.unwrap();
    let report = server.stderr_line("drained in", BOUND).await.unwrap();
    assert!(report.contains("; 50 moved"), "{report}");
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 1), 50);
}

/// Told to stop, a predecessor does not wait for its probation, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_predecessor_that_is_told_to_stop_lets_go_at_once() {
    let server = program(FOR_EVER).start().await.unwrap();
    let to = server.newest().first_target().unwrap();
    let mut connections = idle(&to, 50).await;
    let (old, new) = upgrade(&server).await;
    given(&new, 50).await;
    old.process.signal(Signal::TERM).unwrap();
    assert_eq!(old.process.exit(BOUND).await.unwrap(), Exit::Status(0));
    let report = server.stderr_line("drained in", BOUND).await.unwrap();
    assert!(report.contains("; 50 moved"), "{report}");
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 1), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heir_of_a_killed_predecessor_has_what_it_holds() {
    let server = program(FOR_EVER).start().await.unwrap();
    let to = server.newest().first_target().unwrap();
    let mut connections = idle(&to, 100).await;
    let (old, new) = upgrade(&server).await;
    given(&new, 100).await;
    old.process.signal(Signal::KILL).unwrap();
    old.process.exit(BOUND).await.unwrap();
    server.stderr_line("predecessor gone", BOUND).await.unwrap();
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 1), 100);
}

/// What a generation holds when it is itself replaced goes on to the third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_goes_on_to_the_next_generation() {
    let server = program(FOR_EVER).start().await.unwrap();
    let to = server.newest().first_target().unwrap();
    let mut connections = idle(&to, 100).await;
    let (_, second) = upgrade(&server).await;
    given(&second, 100).await;
    let (_, third) = upgrade(&server).await;
    given(&third, 100).await;
    let answers = ask_all(&mut connections).await;
    assert_eq!(answered_by(&answers, 2), 100);
    assert_eq!(get(&to, "/").await.unwrap().head.generation, Some(2));
}

/// A successor that stands still for a while keeps clients waiting, and loses nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_stops_for_two_seconds_loses_nobody() {
    for probation in ["0", "10"] {
        let program = program(probation).args(["--ready-delay", "0.3"]);
        let server = program.start().await.unwrap();
        let to = server.newest().first_target().unwrap();
        // More than are sent without an answer.
        let mut connections = idle(&to, 1500).await;
        let (_, new) = upgrade(&server).await;
        new.process.signal(Signal::STOP).unwrap();
        let asks = tokio::spawn(async move {
            let answers = ask_all(&mut connections).await;
            (connections, answers)
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        new.process.signal(Signal::CONT).unwrap();
        let (mut connections, answers) = asks.await.unwrap();
        assert_eq!(answers.len(), 1500);
        assert!(answers.iter().all(|answer| !answer.head.close));
        let answers = ask_all(&mut connections).await;
        assert_eq!(answered_by(&answers, 1), 1500, "after {probation} s");
    }
}
