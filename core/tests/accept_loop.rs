//! An accept loop in the moment in which the service ends, or does not after all.

use std::{
    sync::{Arc, Mutex, mpsc},
    task::{Context, Wake},
    thread,
    time::Duration,
};

use handover::{Graceful, Reason, accept::Incoming};
use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
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

/// Wakes nobody, but keeps the thread that the runtime's reactor has until it is let go.
struct Stuck {
    has_begun: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl Wake for Stuck {
    fn wake(self: Arc<Self>) {
        let _ = self.has_begun.send(());
        let _ = self.go_on.lock().unwrap().recv();
    }
}

/// The reactor is kept from the processor, as on a busy machine, and has not told of a client that the
/// kernel has; the loop, in another thread, hears of the drain first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_before_the_end_is_served_though_the_reactor_is_late() {
    let graceful = Graceful::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = Incoming::new(listener, &graceful, &[]);
    let accepts = tokio::spawn(async move { incoming.next(true).await.is_some() });

    let (one, other) = UnixStream::pair().unwrap();
    let (begun, has_begun) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let stuck = Arc::new(Stuck {
        has_begun: begun,
        go_on: Mutex::new(goes_on),
    });
    let waker = stuck.into();
    // Its first event is behind it: from now on it waits for another.
    other.writable().await.unwrap();
    let waits = one.poll_read_ready(&mut Context::from_waker(&waker));
    assert!(waits.is_pending());
    let client = tokio::task::spawn_blocking(move || {
        other.try_write(b"x").unwrap();
        has_begun.recv().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        graceful.drain();
        // All the time that a loop needs which does not wait for the reactor.
        thread::sleep(Duration::from_millis(200));
        go_on.send(()).unwrap();
        client
    });
    let accepted = timeout(Duration::from_secs(20), accepts).await;
    assert!(accepted.unwrap().unwrap(), "it has ended before");
    drop(client.await.unwrap());
}
