use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{Graceful, Reason};

#[tokio::test(start_paused = true)]
async fn a_phase_was_entered_when_it_began() {
    let (second, tick) = (Duration::from_secs(1), Duration::from_millis(10));
    let graceful = Graceful::builder().lame_duck(second).build();
    let guard = graceful.guard();
    let entered = || graceful.drain_ref().entered();
    assert_eq!(entered(), None);
    let began = Instant::now();
    graceful.drain();
    sleep(tick).await;
    assert_eq!(entered(), Some(began));
    graceful.draining().await;
    sleep(tick).await;
    assert_eq!(entered(), Some(began + second));
    let cut = Instant::now();
    graceful.cut();
    sleep(tick).await;
    assert_eq!(entered(), Some(cut));
    let ended = Instant::now();
    drop(guard);
    sleep(tick).await;
    assert_eq!(entered(), Some(ended));
}

#[tokio::test(start_paused = true)]
async fn what_was_moved_is_reported() {
    let graceful = Graceful::new();
    let guard = graceful.guard();
    graceful.drain_for(Reason::Upgrade { successor: 7 });
    graceful.count_moved();
    graceful.count_moved();
    drop(guard);
    assert_eq!(graceful.drained().await.moved, 2);
}
