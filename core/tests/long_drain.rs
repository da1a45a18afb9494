//! A drain that takes long says in the log what it waits for.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use handover::{Graceful, Policy, Reason};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

const SECOND: Duration = Duration::from_secs(1);
const A_LITTLE: Duration = Duration::from_millis(50);

/// The log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_ansi(false)
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (log, guard)
    }

    /// The lines that say what is waited for.
    fn waits(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let waits = text.lines().filter(|line| line.contains("waits for"));
        waits.map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_drain_names_the_oldest_ever_more_seldom() {
    let (log, _kept) = Log::start();
    let policy = Policy::default().with_deadline(100 * SECOND);
    let graceful = Graceful::with_policy(policy);
    let mut held = Vec::new();
    for name in [
        "first", "second", "third", "fourth", "fifth", "sixth", "seventh",
    ] {
        held.push(graceful.hold(name).unwrap());
        sleep(SECOND).await;
    }
    let nameless = graceful.guard();
    graceful.drain();
    let began = Instant::now();
    let after = |seconds| sleep_until(began + seconds * SECOND + A_LITTLE);
    after(4).await;
    assert!(log.waits().is_empty());
    for (seconds, lines) in [(5, 1), (9, 1), (10, 2), (19, 2), (20, 3), (39, 3), (40, 4)] {
        after(seconds).await;
        let waits = log.waits();
        assert_eq!(waits.len(), lines, "after {seconds} s: {waits:?}");
    }
    for part in [
        " WARN ",
        "draining for 5.0 s, at most 95.0 s more; waits for task first, 12.0 s; task second, 11.0 s; ",
        "task fifth, 8.0 s; 2 more; 1 unnamed guard",
    ] {
        assert!(log.waits()[0].contains(part), "{part}: {:?}", log.waits());
    }
    held.drain(..5);
    drop(nameless);
    after(80).await;
    let waits = log.waits();
    let last = &waits[4];
    assert!(
        last.contains("waits for task sixth, 82.0 s; task seventh, 81.0 s"),
        "{last}"
    );
    assert!(
        !last.contains("2 more") && !last.contains("unnamed"),
        "{last}"
    );
    drop(held);
    graceful.drained().await;
    after(1000).await;
    assert_eq!(log.waits().len(), 5, "after the end");
}

#[tokio::test(start_paused = true)]
async fn a_lame_duck_and_a_drain_in_time_say_nothing() {
    let (log, _kept) = Log::start();
    let graceful = Graceful::with_policy(Policy::kubernetes());
    let guard = graceful.guard();
    graceful.drain();
    let began = Instant::now();
    sleep_until(began + 10 * SECOND - A_LITTLE).await;
    assert!(log.waits().is_empty());
    sleep_until(began + 10 * SECOND + A_LITTLE).await;
    assert_eq!(log.waits().len(), 1, "5 s after the lame duck");
    drop(guard);

    let never = Policy::default().with_log_after(Duration::ZERO);
    let graceful = Graceful::with_policy(never);
    let _guard = graceful.guard();
    graceful.drain();
    assert_eq!(graceful.drained().await.abandoned, 1);
    assert_eq!(log.waits().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_an_upgrade_it_is_no_warning_and_each_drain_begins_anew() {
    let (log, _kept) = Log::start();
    let graceful = Graceful::new();
    let jobs = graceful.stage("jobs");
    let request = graceful.hold("request");
    let _job = jobs.hold("job");
    let upgrade = Reason::Upgrade { successor: 7 };
    for lines in [1, 2] {
        graceful.drain_for(upgrade);
        sleep(6 * SECOND).await;
        assert_eq!(log.waits().len(), lines);
        assert!(graceful.resume());
    }
    let waits = log.waits();
    assert!(waits[0].contains(" INFO "), "{waits:?}");
    assert!(
        waits[0].contains("waits for task request, 5.0 s "),
        "{waits:?}"
    );
    graceful.drain_for(upgrade);
    sleep(SECOND).await;
    drop(request);
    sleep(5 * SECOND).await;
    let waits = log.waits();
    let stage = "waits for task job, 17.0 s reason=upgrade to pid 7 stage=\"jobs\"";
    assert!(waits[2].ends_with(stage), "{waits:?}");
}
