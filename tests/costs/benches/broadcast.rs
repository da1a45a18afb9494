//! Telling parked tasks to end, until the last has: 1,000, 10,000 and 100,000 of them. With
//! `HANDOVER_TASKS=1000000` in the environment, a million.

mod support;

use std::{
    env,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use handover::{Graceful, Phase};
use swansong::Swansong;
use tokio::{runtime::Runtime, sync::Barrier, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How often so many are told as criterion would take too long for.
const FEW: usize = 3;

fn main() {
    let mut criterion = support::criterion();
    let given = env::var("HANDOVER_TASKS").ok().and_then(|n| n.parse().ok());
    let counts = given.map_or(vec![1_000, 10_000, 100_000], |n: usize| vec![n]);
    for n in counts {
        let title = format!("broadcast to {n}");
        let rows: [(_, &dyn Fn() -> Duration); 5] = [
            ("floor/waker list", &|| waker_list(n)),
            ("handover/Holder::poll_phase", &|| handover(n)),
            ("tokio-util/TaskTracker + CancellationToken", &|| {
                tokio_util(n)
            }),
            ("swansong/guard + shutting_down", &|| swansong(n)),
            ("drain/Watch", &|| drain(n)),
        ];
        match given {
            Some(_) => support::compare_few(&title, FEW, &rows),
            None => support::compare_once(&mut criterion, &title, &rows),
        }
    }
    criterion.final_summary();
}

/// Spawns what waits, and takes the time from the call of `tell` until all have ended.
fn broadcast<F, E>(n: usize, waits: impl Fn() -> F, tell: impl FnOnce() -> E) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
    E: Future<Output = ()> + Send,
{
    let runtime = Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        let parked = Arc::new(Barrier::new(2));
        let left = Arc::new(std::sync::atomic::AtomicUsize::new(n));
        let mut tasks = JoinSet::new();
        for _ in 0..n {
            let (parked, left) = (parked.clone(), left.clone());
            let mut waits = Box::pin(waits());
            tasks.spawn(async move {
                let polled = poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx))).await;
                assert!(polled.is_pending(), "nobody has been told yet");
                if left.fetch_sub(1, std::sync::atomic::Ordering::AcqRel) == 1 {
                    parked.wait().await;
                }
                waits.await;
            });
        }
        parked.wait().await;
        support::clocked(async {
            tell().await;
            while tasks.join_next().await.is_some() {}
        })
        .await
    })
}

#[derive(Default)]
struct List {
    told: bool,
    wakers: Vec<Waker>,
}

fn waker_list(n: usize) -> Duration {
    let list = Arc::new(Mutex::new(List::default()));
    let waits = || {
        let list = list.clone();
        poll_fn(move |cx| {
            let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
            if list.told {
                return Poll::Ready(());
            }
            list.wakers.push(cx.waker().clone());
            Poll::Pending
        })
    };
    broadcast(n, waits, async || {
        let wakers = {
            let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
            list.told = true;
            std::mem::take(&mut list.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    })
}

fn handover(n: usize) -> Duration {
    let graceful = Graceful::new();
    let waits = || {
        let mut holder = graceful.hold("connection").expect("not drained");
        poll_fn(move |cx| {
            while let Poll::Ready(phase) = holder.poll_phase(cx) {
                if phase >= Phase::Draining {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
    };
    broadcast(n, waits, async || {
        graceful.drain();
        graceful.drained().await;
    })
}

fn tokio_util(n: usize) -> Duration {
    let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
    let waits = || tracker.track_future(token.clone().cancelled_owned());
    broadcast(n, waits, async || {
        token.cancel();
        tracker.close();
        tracker.wait().await;
    })
}

fn swansong(n: usize) -> Duration {
    let swansong = Swansong::new();
    let waits = || {
        let (guard, told) = (swansong.guard(), swansong.shutting_down());
        async move {
            told.await;
            drop(guard);
        }
    };
    broadcast(n, waits, async || swansong.shut_down().await)
}

fn drain(n: usize) -> Duration {
    let (signal, watch) = drain::channel();
    let waits = || {
        let watch = watch.clone();
        async move { drop(watch.signaled().await) }
    };
    broadcast(n, waits, async || {
        // It tells when it is polled; then it waits for the channel's own handle, too.
        tokio::select! {
            biased;
            () = signal.drain() => {}
            () = std::future::ready(()) => {}
        }
    })
}
