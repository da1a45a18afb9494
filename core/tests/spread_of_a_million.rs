//! A million clients that stay, in one drain: the rate is the policy's, and what it costs is bounded.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use handover::{Graceful, Policy};
use tokio::{
    runtime,
    time::{Instant, sleep_until},
};

const CLIENTS: usize = 1_000_000;
const WINDOW: u64 = 20;

/// What this process has of memory, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[cfg(not(target_os = "linux"))]
fn resident() -> usize {
    0
}

/// Fails if more than their share come in any second, one does not come in the window, or a client
/// costs more than a kilobyte, its task included.
#[test]
fn a_million_clients_come_back_at_the_rate_of_the_policy() {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let before = resident();
    runtime.block_on(async {
        let policy = Policy::default().with_close_spread(Duration::from_secs(WINDOW));
        let graceful = Graceful::with_policy(policy);
        let guard = graceful.guard();
        let seconds: Arc<[AtomicUsize; WINDOW as usize + 1]> = Arc::default();
        let start = Instant::now();
        for _ in 0..CLIENTS {
            let mut turn = graceful.turn();
            let seconds = seconds.clone();
            tokio::spawn(async move {
                poll_fn(|cx| turn.poll(cx)).await;
                seconds[start.elapsed().as_secs() as usize].fetch_add(1, Relaxed);
            });
        }
        tokio::task::yield_now().await;
        graceful.drain();
        // By the seconds, so that one that is late is seen.
        sleep_until(start + Duration::from_secs(WINDOW) + Duration::from_millis(2)).await;
        let most = resident().saturating_sub(before);
        drop(guard);
        let report = graceful.drained().await;
        assert_eq!(report.reconnects.told, CLIENTS, "{report}");
        let share = CLIENTS / WINDOW as usize;
        // The clock of the runtime has milliseconds.
        let allowed = share + share / 500;
        for count in seconds.iter() {
            assert!(count.load(Relaxed) <= allowed, "{seconds:?}");
        }
        assert!(report.reconnects.peak_per_second <= allowed, "{report}");
        assert!((report.reconnects.expected_per_second - share as f64).abs() < 1.0);
        assert!(most < CLIENTS * 1024, "{} bytes each", most / CLIENTS);
        println!("{report}; {} bytes each", most / CLIENTS);
    });
}
