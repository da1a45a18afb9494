//! The stage behind the report, which is what the report itself goes through.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use handover::{Graceful, Phase, Policy};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
};

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(60);

/// A service with a stage behind the report, of which this is the work.
fn service() -> (Graceful, Graceful) {
    let policy = Policy::default().with_deadline(20 * SECOND);
    let graceful = Graceful::with_policy(policy.with_last_stage(2 * SECOND));
    let last = graceful.last_stage();
    (graceful, last)
}

#[tokio::test(start_paused = true)]
async fn it_drains_when_there_is_a_report() {
    let (graceful, last) = service();
    let flush = tokio::spawn(last.track("flush", {
        let last = last.clone();
        async move {
            last.draining().await;
            let report = last.report();
            sleep(SECOND).await;
            report.map(|report| report.took)
        }
    }));
    // Asked for later, it is drained before.
    let jobs = graceful.stage("jobs");
    let job = jobs.guard();
    assert_eq!(graceful.holders().len(), 1);
    graceful.drain();
    yield_now().await;
    assert_eq!(last.phase(), Phase::Running);
    sleep(3 * SECOND).await;
    assert!(graceful.report().is_none());
    drop(job);
    let report = graceful.drained().await;
    assert_eq!(flush.await.unwrap(), Some(Some(3 * SECOND)));
    assert_eq!(report.took, 3 * SECOND, "with what is behind it");
    assert!(
        report.is_complete() && report.at_start.tasks == 0,
        "{report}"
    );
    assert!(last.guard().is_none());
    assert_eq!(graceful.last_stage().phase(), Phase::Drained);
}

/// Where the last stage was each time that something was logged, but for debugging.
struct Logged {
    last: Graceful,
    phases: Arc<Mutex<Vec<Phase>>>,
}

impl<S: Subscriber> Layer<S> for Logged {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::INFO {
            self.phases.lock().unwrap().push(self.last.phase());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_drains_when_the_report_has_been_logged() {
    let (graceful, last) = service();
    let guard = last.guard();
    let phases = Arc::default();
    let logged = Logged {
        last: last.clone(),
        phases: Arc::clone(&phases),
    };
    // While there is one subscriber alone, whoever comes first to a place that logs decides for all
    // whether anybody listens there, and that may be the thread of another test, which has none.
    let _other = Dispatch::new(Registry::default());
    let _logs = tracing::subscriber::set_default(Registry::default().with(logged));
    graceful.drain();
    assert_eq!(last.phase(), Phase::Draining);
    // Its beginning, and the report.
    assert_eq!(*phases.lock().unwrap(), [Phase::Running, Phase::Running]);
    drop(guard);
    graceful.drained().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_is_told_within_the_deadline() {
    let (graceful, last) = service();
    let began = Instant::now();
    let stuck = graceful.hold("stuck");
    let flush = tokio::spawn(last.track("flush", {
        let last = last.clone();
        async move {
            last.draining().await;
            sleep(SECOND).await;
            last.report().map(|report| report.cut.len())
        }
    }));
    graceful.drain();
    assert_eq!(graceful.remaining(), Some(18 * SECOND));
    graceful.cutting().await;
    assert_eq!(began.elapsed(), 18 * SECOND);
    assert_eq!(last.phase(), Phase::Running, "the cut is of the work");
    drop(stuck);
    assert_eq!(flush.await.unwrap(), Some(Some(1)));
    assert_eq!(graceful.drained().await.cut.len(), 1);
    assert!(
        began.elapsed() < 19 * SECOND + 2 * GRACE,
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_cut_at_the_deadline() {
    for (asked, until) in [(None, 20 * SECOND), (Some(5 * SECOND), 7 * SECOND)] {
        let (graceful, last) = service();
        let began = Instant::now();
        let stuck = graceful.guard();
        let flush = tokio::spawn(last.track("flush", pending::<()>()));
        graceful.drain();
        if let Some(asked) = asked {
            sleep(asked).await;
            graceful.cut();
        }
        let report = graceful.drained().await;
        let took = began.elapsed();
        assert!(
            took >= until && took <= until + GRACE,
            "{asked:?}: {took:?}"
        );
        assert_eq!(report.abandoned, 1, "of the work: {report}");
        assert_eq!(flush.await.unwrap(), None);
        drop(stuck);
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_is_left_of_the_time_is_its_own() {
    let (graceful, last) = service();
    let flush = tokio::spawn(last.track("flush", sleep(19 * SECOND)));
    graceful.drain();
    assert_eq!(graceful.remaining(), Some(20 * SECOND));
    graceful.drained().await;
    assert_eq!(flush.await.unwrap(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_cut_behind_the_report_is_meant_for_it() {
    let (graceful, last) = service();
    let guard = last.guard();
    let flush = tokio::spawn(last.track("flush", pending::<()>()));
    graceful.drain();
    last.draining().await;
    let began = Instant::now();
    graceful.cut();
    assert_eq!(last.phase(), Phase::Cutting);
    graceful.drained().await;
    assert_eq!(began.elapsed(), GRACE);
    assert_eq!(flush.await.unwrap(), None);
    // Somebody who holds it still is given up on, and who watches it learns of that.
    assert_eq!(last.phase(), Phase::Drained);
    drop(guard);
}
