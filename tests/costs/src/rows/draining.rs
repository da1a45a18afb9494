use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use handover::Graceful;

use crate::Row;

/// Asks "is it draining?". The first row is the least that asking costs: one load.
pub fn draining() -> Vec<Row> {
    #[allow(unused_mut, reason = "without the peers there are no more")]
    let mut rows = vec![
        Row::of(
            "floor/Arc<AtomicBool>",
            || Arc::new(AtomicBool::new(false)),
            |flag| {
                black_box(flag.load(Ordering::Acquire));
            },
        ),
        Row::of(
            "handover/Graceful::is_draining",
            Graceful::new,
            |graceful| {
                black_box(graceful.is_draining());
            },
        ),
        Row::each(
            "handover/Guard::phase",
            Graceful::new,
            |graceful| graceful.guard().expect("not drained"),
            |guard| {
                black_box(guard.phase());
            },
        ),
    ];
    #[cfg(feature = "peers")]
    rows.extend(peers());
    rows
}

#[cfg(feature = "peers")]
fn peers() -> Vec<Row> {
    use swansong::Swansong;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    vec![
        Row::of(
            "tokio-util/CancellationToken::is_cancelled",
            CancellationToken::new,
            |token| {
                black_box(token.is_cancelled());
            },
        ),
        Row::of(
            "tokio-util/TaskTracker::is_closed",
            TaskTracker::new,
            |tracker| {
                black_box(tracker.is_closed());
            },
        ),
        Row::of("swansong/state", Swansong::new, |swansong| {
            black_box(swansong.state().is_running());
        }),
    ]
}
