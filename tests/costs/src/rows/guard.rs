use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use handover::Graceful;

use crate::Row;

/// Takes what holds a drain open, and drops it. The first row is the least that a shared count costs.
pub fn guard() -> Vec<Row> {
    #[allow(unused_mut, reason = "without the peers there are no more")]
    let mut rows = vec![
        Row::of("floor/Arc clone", || Arc::new(0), |arc| drop(arc.clone())),
        Row::of(
            "floor/atomic",
            || Arc::new(AtomicUsize::new(0)),
            |count| {
                count.fetch_add(1, Ordering::Relaxed);
                count.fetch_sub(1, Ordering::AcqRel);
            },
        ),
        Row::of("handover/guard", Graceful::new, |graceful| {
            drop(graceful.guard());
        }),
        Row::each(
            "handover/guard clone",
            Graceful::new,
            |graceful| graceful.guard().expect("not drained"),
            |guard| drop(guard.clone()),
        ),
        Row::of("handover/hold", Graceful::new, |graceful| {
            drop(graceful.hold("job"));
        }),
    ];
    #[cfg(feature = "peers")]
    rows.extend(peers());
    rows
}

#[cfg(feature = "peers")]
fn peers() -> Vec<Row> {
    use hyper_util::server::graceful::GracefulShutdown;
    use swansong::Swansong;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::tokio_graceful;

    vec![
        Row::of(
            "tokio-util/TaskTracker::token",
            TaskTracker::new,
            |tracker| drop(tracker.token()),
        ),
        Row::of(
            "tokio-util/token + CancellationToken",
            || (TaskTracker::new(), CancellationToken::new()),
            |(tracker, token)| drop((tracker.token(), token.clone())),
        ),
        Row::of(
            "hyper-util/GracefulShutdown::watcher",
            || Arc::new(GracefulShutdown::new()),
            |graceful| drop(graceful.watcher()),
        ),
        Row::of(
            "tokio-graceful/ShutdownGuard clone",
            tokio_graceful::never_told,
            |told| drop(told.guard.clone()),
        ),
        Row::of(
            "drain/Watch clone",
            || Arc::new(drain::channel()),
            |channel| drop(channel.1.clone()),
        ),
        Row::of("swansong/guard", Swansong::new, |swansong| {
            drop(swansong.guard());
        }),
    ]
}
