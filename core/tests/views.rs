//! What the token tells of a drain, and the handles that share one.

use std::time::Duration;

use handover::{Graceful, Phase, Policy, Reason, Stays};
use tokio_test::{assert_pending, task};

const SECOND: Duration = Duration::from_secs(1);
const UPGRADE: Reason = Reason::Upgrade { successor: 7 };

#[tokio::test(start_paused = true)]
async fn clients_are_sent_away_from_the_lame_duck_on() {
    let graceful = Graceful::builder().lame_duck(SECOND).build();
    let _guard = graceful.guard();
    assert!(!graceful.is_draining());
    let mut lame_duck = task::spawn(graceful.lame_duck());
    assert_pending!(lame_duck.poll());
    graceful.drain();
    assert!(lame_duck.is_woken());
    assert_eq!(graceful.phase(), Phase::LameDuck);
    assert!(graceful.is_draining());
}

#[test]
fn the_phases_say_who_is_ready_and_who_accepts() {
    for (phase, is_ready, accepts) in [
        (Phase::Running, true, true),
        (Phase::LameDuck, false, true),
        (Phase::Draining, false, false),
        (Phase::Cutting, false, false),
        (Phase::Drained, false, false),
    ] {
        assert_eq!(phase.is_ready(), is_ready, "{phase}");
        assert_eq!(phase.accepts(), accepts, "{phase}");
    }
}

#[test]
fn each_step_of_the_builder_is_one_of_the_policys() {
    let (upgrade, spread, retry) = (90 * SECOND, 3 * SECOND, 7 * SECOND);
    let graceful = Graceful::builder()
        .upgrade_deadline(upgrade)
        .close_spread(spread)
        .retry(retry)
        .build();
    let policy = Policy::default()
        .with_upgrade_deadline(upgrade)
        .with_close_spread(spread)
        .with_retry(retry);
    assert_eq!(*graceful.policy(), policy);
}

#[tokio::test(start_paused = true)]
async fn only_handles_of_one_service_are_the_same_drain() {
    let graceful = Graceful::new();
    for handle in [graceful.clone(), graceful.apart(), graceful.stage("jobs")] {
        assert!(handle.is_same_drain(&graceful));
    }
    assert!(!Graceful::new().is_same_drain(&graceful));
    let apart = graceful.apart();
    let guard = apart.guard();
    assert_eq!(graceful.guards(), 1);
    apart.drain();
    assert_eq!(graceful.phase(), Phase::Draining);
    drop(guard);
    assert!(graceful.drained().await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn connections_that_stay_are_counted_in_upgrades() {
    let graceful = Graceful::new();
    assert!(!graceful.count_stayed(Stays::Busy), "there is no drain");
    let guard = graceful.guard();
    graceful.drain_for(UPGRADE);
    assert!(graceful.count_stayed(Stays::Busy));
    drop(guard);
    assert_eq!(graceful.drained().await.stayed.count(Stays::Busy), 1);

    let stopped = Graceful::new();
    let guard = stopped.guard();
    stopped.drain();
    assert!(!stopped.count_stayed(Stays::Busy), "nobody would take it");
    drop(guard);
    assert_eq!(stopped.drained().await.stayed.total(), 0);
}
