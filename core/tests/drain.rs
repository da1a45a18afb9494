//! What the token promises, in paused time and by polls.

use std::time::Duration;

use handover::{Graceful, Kind, Phase, Policy, Reason};
use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready, task};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn nothing_to_wait_for_is_drained_at_once() {
    let graceful = Graceful::new();
    assert_eq!(graceful.phase(), Phase::Running);
    graceful.drain();
    let report = graceful.drained().await;
    assert!(report.is_complete());
    assert_eq!(report.reason, Reason::Program);
    assert_eq!(graceful.phase(), Phase::Drained);
}

#[tokio::test(start_paused = true)]
async fn the_last_guard_ends_the_drain() {
    let graceful = Graceful::new();
    let first = graceful.guard().unwrap();
    graceful.drain();
    let second = graceful.guard().expect("given out while the first is held");
    let mut drained = task::spawn(graceful.drained());
    assert_pending!(drained.poll());
    drop(first);
    assert_pending!(drained.poll());
    drop(second);
    assert!(drained.is_woken());
    assert_ready!(drained.poll());
    assert!(graceful.guard().is_none());
}

#[test]
fn a_drain_needs_no_runtime() {
    let graceful = Graceful::new();
    let guard = graceful.guard();
    graceful.drain();
    drop(guard);
    assert!(graceful.report().unwrap().is_complete());
}

fn wait_for_the_report(graceful: &Graceful) -> handover::Report {
    let waited = std::time::Instant::now();
    loop {
        if let Some(report) = graceful.report() {
            return report;
        }
        assert!(waited.elapsed() < 10 * SECOND, "the deadline never came");
        std::thread::yield_now();
    }
}

#[test]
fn without_a_runtime_a_thread_keeps_the_deadline() {
    let graceful = Graceful::builder().deadline(SECOND / 20).build();
    let _guard = graceful.guard();
    graceful.drain();
    assert_eq!(wait_for_the_report(&graceful).abandoned, 1);
}

#[test]
fn a_deadline_outlives_the_runtime_that_began_the_drain() {
    let graceful = Graceful::builder().deadline(SECOND / 20).build();
    let _guard = graceful.guard();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { graceful.drain() });
    drop(runtime);
    assert_eq!(wait_for_the_report(&graceful).abandoned, 1);
}

#[tokio::test(start_paused = true)]
async fn phases_come_in_order_and_on_time() {
    let graceful = Graceful::builder()
        .lame_duck(5 * SECOND)
        .deadline(25 * SECOND)
        .build();
    let guard = graceful.guard().unwrap();
    let began = Instant::now();
    graceful.drain();
    graceful.lame_duck().await;
    assert_eq!(graceful.phase(), Phase::LameDuck);
    assert_eq!(began.elapsed(), Duration::ZERO);
    graceful.draining().await;
    assert_eq!(graceful.phase(), Phase::Draining);
    assert!(began.elapsed() >= 5 * SECOND && began.elapsed() < 5 * SECOND + SECOND / 10);
    graceful.cutting().await;
    assert!(began.elapsed() >= 25 * SECOND && began.elapsed() < 25 * SECOND + SECOND / 10);
    let report = graceful.drained().await;
    assert!(began.elapsed() < 25 * SECOND + SECOND / 10);
    assert_eq!(report.abandoned, 1, "it ends although a guard is held");
    assert!(!report.is_complete());
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn views_are_level_triggered() {
    let graceful = Graceful::new();
    let _guard = graceful.guard();
    graceful.drain();
    graceful.cut();
    graceful.lame_duck().await;
    graceful.draining().await;
    graceful.cutting().await;
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_has_no_lame_duck_and_its_own_deadline() {
    let policy = Policy::kubernetes().with_upgrade_deadline(90 * SECOND);
    let graceful = Graceful::with_policy(policy);
    let _guard = graceful.guard();
    assert!(graceful.drain_for(Reason::Upgrade { successor: 7 }));
    assert!(
        !graceful.drain_for(Reason::Program),
        "the first reason stays"
    );
    assert_eq!(graceful.phase(), Phase::Draining);
    assert_eq!(graceful.remaining(), Some(90 * SECOND));
    assert_eq!(graceful.reason(), Some(Reason::Upgrade { successor: 7 }));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_taken_back_and_drains_again_later() {
    let graceful = Graceful::new();
    let mut holder = graceful.hold("connection").unwrap();
    let mut context = task::spawn(());
    let mut poll = |holder: &mut handover::Holder| context.enter(|cx, _| holder.poll_phase(cx));
    assert_eq!(assert_ready!(poll(&mut holder)), Phase::Running);
    assert_pending!(poll(&mut holder));
    graceful.drain_for(Reason::Upgrade { successor: 7 });
    assert_eq!(assert_ready!(poll(&mut holder)), Phase::Draining);
    assert_pending!(poll(&mut holder));
    assert!(graceful.resume());
    assert_eq!(assert_ready!(poll(&mut holder)), Phase::Running);
    assert_eq!(graceful.reason(), None);
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(
        graceful.phase(),
        Phase::Running,
        "the first drain's deadline is void"
    );
    drop(holder);
    graceful.drain();
    assert!(graceful.drained().await.is_complete());
    assert!(!graceful.resume());
}

#[tokio::test(start_paused = true)]
async fn a_holder_is_woken_by_each_change_and_by_nothing_else() {
    let graceful = Graceful::new();
    let mut holder = graceful.hold("connection").unwrap();
    let mut context = task::spawn(());
    assert_ready!(context.enter(|cx, _| holder.poll_phase(cx)));
    assert_pending!(context.enter(|cx, _| holder.poll_phase(cx)));
    assert!(!context.is_woken());
    for phase in [Phase::Draining, Phase::Cutting] {
        match phase {
            Phase::Draining => graceful.drain(),
            _ => graceful.cut(),
        }
        assert!(context.is_woken(), "{phase}");
        assert_eq!(
            assert_ready!(context.enter(|cx, _| holder.poll_phase(cx))),
            phase
        );
        assert_pending!(context.enter(|cx, _| holder.poll_phase(cx)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_made_final_is_not_taken_back() {
    let graceful = Graceful::new();
    let _guard = graceful.guard();
    assert!(!graceful.make_final(), "there is nothing to make final");
    graceful.drain_for(Reason::Upgrade { successor: 7 });
    assert!(graceful.make_final());
    assert!(!graceful.resume());
    assert_eq!(graceful.phase(), Phase::Draining);
}

#[tokio::test(start_paused = true)]
async fn only_upgrades_are_taken_back() {
    let graceful = Graceful::new();
    let _guard = graceful.guard();
    assert!(!graceful.resume());
    graceful.drain();
    assert!(!graceful.resume());
    assert_eq!(graceful.phase(), Phase::Draining);
}

#[tokio::test(start_paused = true)]
async fn stages_drain_in_order_under_one_deadline() {
    let graceful = Graceful::builder().deadline(10 * SECOND).build();
    let jobs = graceful.stage("jobs");
    let logs = graceful.stage("logs");
    let request = graceful.guard().unwrap();
    let job = jobs.guard().unwrap();
    graceful.drain();
    assert_eq!(jobs.phase(), Phase::Running);
    let late = jobs.guard().expect("the stage has not begun to drain");
    drop(request);
    assert_eq!(graceful.phase(), Phase::Drained);
    assert_eq!(jobs.phase(), Phase::Draining);
    drop(late);
    assert_eq!(logs.phase(), Phase::Running);
    drop(job);
    assert_eq!(logs.phase(), Phase::Drained);
    assert!(graceful.drained().await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn the_cut_reaches_every_stage() {
    let graceful = Graceful::builder().deadline(10 * SECOND).build();
    let jobs = graceful.stage("jobs");
    let request = graceful.guard().unwrap();
    let job = jobs.hold("nightly").unwrap();
    graceful.drain();
    jobs.cutting().await;
    assert_eq!(graceful.phase(), Phase::Cutting);
    drop(request);
    drop(job);
    let report = graceful.drained().await;
    assert_eq!(report.cut.len(), 1);
    assert_eq!(report.cut[0].what.as_deref(), Some("nightly"));
    assert_eq!(report.abandoned, 0);
}

#[tokio::test(start_paused = true)]
async fn tracked_futures_are_listed_and_cut() {
    let graceful = Graceful::builder().deadline(SECOND).build();
    let endless = tokio::spawn({
        let graceful = graceful.clone();
        async move {
            graceful
                .track("endless", std::future::pending::<()>())
                .await
        }
    });
    tokio::task::yield_now().await;
    let holders = graceful.holders();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].kind, Kind::Task);
    graceful.drain();
    let report = graceful.drained().await;
    assert_eq!(endless.await.unwrap(), None);
    assert_eq!(report.at_start.tasks, 1);
    let text = report.to_string();
    assert!(text.contains("cut 1: task endless"), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["cut"][0]["what"], "endless");
}

/// A handler spawns a job and is done; nobody knows when the job is polled for the first time.
#[tokio::test(start_paused = true)]
async fn what_is_tracked_holds_its_stage_before_it_is_polled() {
    let graceful = Graceful::new();
    let job = graceful.stage("jobs").track("receipt", async { 7 });
    graceful.drain();
    let mut drained = task::spawn(graceful.drained());
    assert_pending!(drained.poll(), "nobody has polled the job");
    assert_eq!(job.await, Some(7));
    assert!(drained.is_woken());
    assert_ready!(drained.poll());
}

#[tokio::test(start_paused = true)]
async fn a_second_stage_of_one_name_is_the_first() {
    let graceful = Graceful::new();
    let guard = graceful.stage("jobs").guard().unwrap();
    graceful.stage("jobs").drain();
    let mut drained = task::spawn(graceful.drained());
    assert_pending!(drained.poll());
    drop(guard);
    assert_ready!(drained.poll());
    assert!(graceful.stage("late").guard().is_none());
}

#[tokio::test]
async fn many_threads_come_and_go_while_it_drains() {
    let graceful = Graceful::new();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let graceful = graceful.clone();
            std::thread::spawn(move || {
                let mut held = Vec::new();
                while let Some(guard) = graceful.guard() {
                    held.push(guard);
                    if held.len() > 16 || graceful.is_draining() {
                        held.clear();
                    }
                }
            })
        })
        .collect();
    while graceful.guards() == 0 {
        std::thread::yield_now();
    }
    graceful.drain();
    assert!(graceful.drained().await.is_complete());
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(graceful.guards(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_cut_does_not_begin_the_grace_anew() {
    let graceful = Graceful::new();
    let _guard = graceful.guard();
    graceful.cut();
    tokio::time::sleep(SECOND / 25).await;
    graceful.cut();
    let report = graceful.drained().await;
    assert!(report.took < SECOND * 9 / 100, "{:?}", report.took);
}

#[tokio::test(start_paused = true)]
async fn a_lame_duck_that_is_cut_ends_with_its_last_guard() {
    let graceful = Graceful::builder().lame_duck(5 * SECOND).build();
    let guard = graceful.guard();
    graceful.drain();
    graceful.cut();
    assert_eq!(graceful.phase(), Phase::Cutting);
    drop(guard);
    assert!(graceful.report().is_some(), "nothing is left to wait for");
}
