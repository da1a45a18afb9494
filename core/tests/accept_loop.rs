//! An accept loop whose drain is taken back.

use std::{thread, time::Duration};

use handover::{Graceful, Reason, accept::Incoming};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// A loop that asked what a drain is for, after it had been taken back, took the service for one that
/// ends, and accepted no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_is_taken_back_at_once_ends_no_accept_loop() {
    let graceful = Graceful::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = Incoming::new(listener, &graceful, &[]);
    let accepts = tokio::spawn(async move { incoming.next(true).await.is_some() });
    // On a thread of its own, so that the two meet in every way.
    let upgrades = thread::spawn(move || {
        let _guard = graceful.guard();
        for _ in 0..20_000 {
            assert!(graceful.drain_for(Reason::Upgrade { successor: 1 }));
            for _ in 0..fastrand::u32(0..200) {
                std::hint::spin_loop();
            }
            assert!(graceful.resume());
        }
        graceful
    });
    let _graceful = tokio::task::spawn_blocking(|| upgrades.join()).await;
    let _client = TcpStream::connect(address).await.unwrap();
    let accepted = timeout(Duration::from_secs(20), accepts).await;
    let accepted = accepted.expect("it accepts nothing").unwrap();
    assert!(accepted, "it has ended");
}
