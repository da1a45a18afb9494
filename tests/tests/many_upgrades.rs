//! Five upgrades a second, under load: several generations drain at a time, and nobody notices.
//!
//! A thousand of them are `cargo run --release -p zero-loss -- --restarts 1000 --seconds-between 0.2`.

mod support;

use std::time::Duration;

use handover_tests::{
    harness::{Exit, Server, Signal},
    load::{Clients, Config, Report, Storm},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::support::{BOUND, Way};

const UPGRADES: u64 = 50;
const EVERY: Duration = Duration::from_millis(200);

async fn upgraded(server: &Server) -> Report {
    let mut clients = Clients::default();
    (clients.keepalive, clients.idle, clients.fresh) = (4, 24, 2);
    let mut config = Config::new(server.newest().tcp().unwrap()).with_clients(clients);
    // Busy, but not so that the servers of other tests starve.
    config.keepalive_pause = Duration::from_millis(5);
    config.fresh_pause = Duration::from_millis(10);
    config.rtt = Duration::from_millis(1);
    config.timeout = BOUND;
    let storm = Storm::start(config);
    let mut leaving = JoinSet::new();
    for generation in 1..=UPGRADES {
        let next = Instant::now() + EVERY;
        let old = server.newest().process;
        storm.mark(generation);
        old.signal(Signal::HUP).unwrap();
        server.ready(generation, BOUND).await.unwrap();
        leaving.spawn(async move { old.exit(BOUND).await.unwrap() });
        sleep_until(next).await;
    }
    while let Some(exit) = leaving.join_next().await {
        let exit = exit.unwrap();
        // One that ends before its own predecessor tells that its status, not us.
        assert!(matches!(exit, Exit::Status(0) | Exit::Unknown), "{exit}");
    }
    storm.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_five_a_second_lose_nothing() {
    // In the time of the longest request there are ten upgrades, and more on a busy machine.
    let program = Way::Axum.program();
    let server = program.start().await.unwrap();
    let report = upgraded(&server).await;
    println!("{report}");
    assert_eq!(report.lost(), 0, "{report}");
    assert_eq!(report.restarts_taken() as u64, UPGRADES, "{report}");
    // They moved, all of them, and never had to connect again.
    assert_eq!((report.told(), report.found_closed()), (0, 0), "{report}");
    assert!(report.generations.iter().all(|seen| seen.pids.len() == 1));
    assert_eq!(server.processes().unwrap().len(), 1);
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
}
