//! What a manager hears, and when.

use std::os::unix::net::UnixDatagram;

use proptest::prelude::*;

use super::*;
use crate::{
    Policy,
    systemd::{environment::Environment, socket::Notifier},
};

/// What the manager hears.
fn asked(graceful: &Graceful) -> Duration {
    let message = drain(Message::default(), graceful, &mut String::new());
    extended(&message.0).unwrap()
}

proptest! {
    /// Fails if the manager is asked to wait for longer than a step and the margin, or beyond the end
    /// of the grace and the margin; or if it would lose patience before we do.
    #[test]
    fn what_is_asked_for_ends_after_us_and_not_much(
        deadline in prop_oneof![Just(Duration::MAX), (0..200_000u64).prop_map(Duration::from_millis)],
        grace in prop_oneof![Just(Duration::MAX), (0..20_000u64).prop_map(Duration::from_millis)],
        passed in 0..200_000u64
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let policy = Policy::default().with_deadline(deadline).with_cut_grace(grace);
            let end = policy.deadline(false) + policy.cut_grace();
            let graceful = Graceful::with_policy(policy);
            let _guard = graceful.guard();
            graceful.drain();
            let began = Instant::now();
            sleep(Duration::from_millis(passed)).await;
            let passed = began.elapsed();
            let asked = asked(&graceful);
            assert!(asked <= STEP + GRACE, "{asked:?}");
            assert!(passed >= end || asked <= end - passed + GRACE, "{asked:?} after {passed:?}");
            // Either to the end, or long enough to hear the next word.
            assert!(passed + asked >= end.min(passed + 2 * TICK), "{asked:?} after {passed:?}");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_in_words() {
    let graceful = Graceful::builder()
        .deadline(Duration::from_secs(25))
        .build();
    let guard = graceful.guard();
    let job = graceful.hold("index");
    graceful.drain();
    tokio::time::advance(Duration::from_secs(8)).await;
    let left = graceful.remaining().unwrap();
    assert_eq!(
        drain_status(&graceful, left),
        "draining: 1 request or task, longest 8 s, 17 s left"
    );
    drop(job);
    let text = drain_status(&graceful, left);
    assert_eq!(text, "draining: 1 at work, 17 s left");
    drop(guard);
    assert_eq!(drain_status(&graceful, left), "draining: 17 s left");
}

#[tokio::test(start_paused = true)]
async fn no_more_is_asked_for_than_is_left() {
    let graceful = Graceful::builder()
        .deadline(Duration::from_secs(25))
        .build();
    let _guard = graceful.guard();
    graceful.drain();
    let cut_grace = graceful.policy().cut_grace();
    for after in 0..30 {
        let asked = asked(&graceful);
        let left = Duration::from_secs(25).saturating_sub(Duration::from_secs(after));
        assert!(asked <= left + cut_grace + GRACE, "{asked:?} of {left:?}");
        assert!(asked >= left.min(STEP) + GRACE, "{asked:?} of {left:?}");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

/// A service manager, and what it has heard since it was last asked.
struct Hearing {
    socket: UnixDatagram,
    _dir: tempfile::TempDir,
}

impl Hearing {
    /// A manager for the first generation, and its end.
    fn new(watchdog: Option<Duration>) -> (Self, Arc<Manager>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let environment = Environment {
            notifier: Some(Notifier::new(path.as_os_str()).unwrap()),
            watchdog,
            store: None,
        };
        let hearing = Self { socket, _dir: dir };
        (hearing, Arc::new(Manager::of(environment, 0, true)))
    }

    fn heard(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let mut heard = Vec::new();
        while let Ok(length) = self.socket.recv(&mut bytes) {
            heard.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        heard
    }
}

/// For how long a message asks.
fn extended(message: &str) -> Option<Duration> {
    let (_, usec) = message.split_once("EXTEND_TIMEOUT_USEC=")?;
    Some(Duration::from_micros(usec.trim().parse().unwrap()))
}

/// Fails if the manager would take the service for dead, or hears two processes.
#[tokio::test(start_paused = true)]
async fn signs_of_life_come_twice_in_a_period_from_the_main_process_alone() {
    let period = Duration::from_secs(3);
    let (hearing, manager) = Hearing::new(Some(period));
    let living = tokio::spawn(live(Arc::clone(&manager)));
    sleep(5 * period - PACE).await;
    assert_eq!(hearing.heard(), ["WATCHDOG=1\n"; 10]);
    manager.main.send_replace(false);
    sleep(5 * period).await;
    assert!(hearing.heard().is_empty(), "from one that has handed over");
    // At once, and not when its turn would be.
    manager.become_main();
    sleep(PACE).await;
    assert_eq!(hearing.heard(), ["WATCHDOG=1\n"]);
    living.abort();
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_waits_for_no_sign_gets_none() {
    let (hearing, manager) = Hearing::new(None);
    live(manager).await;
    assert!(hearing.heard().is_empty());
}

/// Fails if the manager ends a start that goes on, waits for one beyond its limit, or does not know
/// of what.
#[tokio::test(start_paused = true)]
async fn a_start_is_told_with_what_goes_on_and_until_its_limit() {
    let limit = Duration::from_secs(20);
    let (hearing, manager) = Hearing::new(None);
    // Of an attempt that has failed.
    manager.successor_starting("an older one");
    let starting = tokio::spawn(report_start(Arc::clone(&manager), limit));
    sleep(PACE).await;
    let heard = hearing.heard().concat();
    let status = "STATUS=generation 0 serves, generation 1 starts";
    assert!(heard.starts_with(&format!("{status}\n")), "{heard}");
    assert_eq!(extended(&heard), Some(STEP + GRACE));

    manager.successor_starting("warming the cache");
    sleep(2 * PACE).await;
    let heard = hearing.heard().concat();
    let warming = format!("{status}: warming the cache\n");
    assert!(heard.starts_with(&warming), "{heard}");

    // What has been said is not said again, the time is asked for on and on.
    let began = Instant::now();
    sleep(limit - STEP).await;
    let asked = hearing.heard();
    assert!(!asked.iter().any(|heard| heard.contains("STATUS")));
    assert!(asked.len() as u64 >= began.elapsed().as_secs() / (STEP.as_secs() / 2));
    let last = asked.last().and_then(|heard| extended(heard)).unwrap();
    assert!(last <= STEP + GRACE, "{last:?}");

    sleep(STEP).await;
    let _ = hearing.heard();
    sleep(limit).await;
    assert!(hearing.heard().is_empty(), "beyond the limit");
    starting.abort();
}

/// Fails if a manager is told of a drain that was taken back.
#[tokio::test(start_paused = true)]
async fn a_drain_is_told_until_it_is_over_or_taken_back() {
    let (hearing, manager) = Hearing::new(None);
    let graceful = Graceful::new();
    let guard = graceful.guard();
    let report =
        |graceful: &Graceful| tokio::spawn(report_drain(Arc::clone(&manager), graceful.clone()));
    graceful.drain_for(crate::Reason::Upgrade { successor: 1 });
    let reporting = report(&graceful);
    sleep(2 * TICK + PACE).await;
    let heard = hearing.heard();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(
        heard[0].starts_with("STATUS=draining: 1 at work, 5"),
        "{heard:?}"
    );
    assert!(graceful.resume());
    reporting.await.unwrap();
    assert!(hearing.heard().is_empty(), "it serves again");

    graceful.drain();
    let reporting = report(&graceful);
    sleep(TICK + PACE).await;
    assert_eq!(hearing.heard().len(), 1);
    drop(guard);
    reporting.await.unwrap();
    assert!(hearing.heard().is_empty(), "it is over");
}
