//! What an upgrade makes of a process that fails: every fault, in either process, at every step of
//! the protocol, under load.
//!
//! | step | points of the predecessor | points of the successor |
//! |---|---|---|
//! | 1 spawned | `spawned` | `started` |
//! | 2 hello, sockets, state | `hello-sent` `sockets-sent` `state-sent` `start-sent` | `hello-received` `sockets-received` `state-received` |
//! | 3 starting, progress | `starting-heard` `progress-heard` | `starting-sent` `progress-sent` |
//! | 4 ready | `ready-heard` | `ready-sent` |
//! | 5 commit | `commit-sent` | `commit-received` `pid-file-written` |
//! | 6 serving | `serving-heard` | `serving-sent` |
//! | 7 draining, moving | `draining` `connections-sent` `claim-heard` | `connections-received` `claimed` |
//! | 8 bye | `bye-due` `bye-sent` | `bye-heard` |
//!
//! At each of them the process exits, panics, hangs, is killed, is stopped and goes on, or is
//! stopped and killed. What must hold afterwards is in [`outcome`](handover_tests::faults::outcome): who is left, and what may have
//! been lost. The points are in the library, behind a feature of its own.

#[path = "../support/mod.rs"]
mod support;

mod cell;
mod heir;

use std::time::Instant;

use futures_util::{StreamExt, future, stream};
use handover_tests::{
    faults::{Action, POINTS, Role},
    harness::Signal,
};

use self::cell::Cell;

/// So many cells of one test run at a time. They wait more than they work.
const AT_ONCE: usize = 8;

/// All points of one role, with one fault.
async fn each_point(role: Role, action: Action) {
    let began = Instant::now();
    // To look at one of them: HANDOVER_FAULT_POINT=ready-heard.
    let only = std::env::var("HANDOVER_FAULT_POINT").ok();
    let cells: Vec<Cell> = POINTS
        .iter()
        .filter(|point| point.role == role && only.as_ref().is_none_or(|only| only == point.name))
        .map(|point| Cell { point, action })
        .collect();
    let count = cells.len();
    let cells = cells.into_iter().map(async |cell| {
        let error = cell.run().await.err()?;
        Some(format!("{cell}: {error:#}"))
    });
    let failed: Vec<String> = stream::iter(cells)
        .buffer_unordered(AT_ONCE)
        .filter_map(future::ready)
        .collect()
        .await;
    println!("{count} points in {:.1?}", began.elapsed());
    assert!(
        failed.is_empty(),
        "{} of {count} cells:\n\n{}",
        failed.len(),
        failed.join("\n\n")
    );
}

macro_rules! faults {
    ($($name:ident: $role:ident $action:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            each_point(Role::$role, Action::$action).await;
        })*
    };
}

faults! {
    a_successor_that_exits: Successor Exit,
    a_successor_that_panics: Successor Panic,
    a_successor_that_hangs: Successor Hang,
    a_successor_that_is_killed: Successor Kill,
    a_successor_that_is_stopped_and_goes_on: Successor StopAndGoOn,
    a_successor_that_is_stopped_and_killed: Successor StopAndKill,
    a_predecessor_that_exits: Predecessor Exit,
    a_predecessor_that_panics: Predecessor Panic,
    a_predecessor_that_hangs: Predecessor Hang,
    a_predecessor_that_is_killed: Predecessor Kill,
    a_predecessor_that_is_stopped_and_goes_on: Predecessor StopAndGoOn,
    a_predecessor_that_is_stopped_and_killed: Predecessor StopAndKill,
}

/// Fails if a successor takes a silence for the end of its predecessor, which still has the sockets
/// and the clients: it would be a second service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_predecessor_that_is_stopped_for_longer_than_its_successor_waits() {
    Cell::stopped_for_long().await.unwrap();
}

/// Fails if who serves again looks after the pid file at that moment only: its `main` panics, and
/// takes the file along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_heir_that_panics_before_it_serves_leaves_the_pid_file_to_who_does() {
    heir::gives_the_pid_file_back(Signal::USR1).await.unwrap();
}

/// Likewise, with a file that names a dead process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_heir_that_is_killed_before_it_serves_leaves_the_pid_file_to_who_does() {
    heir::gives_the_pid_file_back(Signal::KILL).await.unwrap();
}

/// Fails if a step of the protocol is skipped, for either process.
#[test]
fn every_step_has_a_point_in_both() {
    for role in [Role::Predecessor, Role::Successor] {
        let steps: Vec<u8> = POINTS
            .iter()
            .filter(|point| point.role == role)
            .map(|point| point.step)
            .collect();
        assert!(steps.is_sorted(), "{steps:?}");
        assert!((1..=8).all(|step| steps.contains(&step)), "{steps:?}");
    }
}
