use std::{
    future::{Future, pending},
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll, Waker},
};

use handover::{Address, Connection, Graceful, Phase};

use crate::Row;

/// Makes what tracks a connection, polls it once, as a task does that has to wait, and drops it. The
/// first row is a connection that nothing tracks.
pub fn connection() -> Vec<Row> {
    #[allow(unused_mut, reason = "without the peers there are no more")]
    let mut rows = vec![
        Row::of("floor/untracked", || (), |()| wait(pending())),
        Row::of("handover/Connection::hold", Graceful::new, |graceful| {
            let connection = Connection::new(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 1))));
            let mut holder = connection.hold(graceful).expect("not drained");
            wait(std::future::poll_fn(|cx| {
                loop {
                    match holder.poll_phase(cx) {
                        Poll::Ready(Phase::Running) => {}
                        polled => return polled.map(drop),
                    }
                }
            }));
        }),
    ];
    #[cfg(feature = "peers")]
    rows.extend(peers());
    rows
}

#[cfg(feature = "peers")]
fn peers() -> Vec<Row> {
    use std::sync::Arc;

    use swansong::Swansong;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::tokio_graceful;

    vec![
        Row::of(
            "tokio-util/TaskTracker + CancellationToken",
            || (TaskTracker::new(), CancellationToken::new()),
            |(tracker, token)| {
                let token = token.clone();
                wait(tracker.track_future(token.cancelled_owned()));
            },
        ),
        Row::of(
            "tokio-graceful/ShutdownGuard",
            tokio_graceful::never_told,
            |told| {
                let guard = told.guard.clone();
                wait(async move { guard.cancelled().await });
            },
        ),
        Row::of(
            "drain/Watch",
            || Arc::new(drain::channel()),
            |channel| {
                let watch = channel.1.clone();
                wait(async move { drop(watch.signaled().await) });
            },
        ),
        Row::of(
            "swansong/guard + shutting_down",
            Swansong::new,
            |swansong| {
                let _guard = swansong.guard();
                let told = swansong.shutting_down();
                wait(told);
            },
        ),
    ]
}

fn wait(future: impl Future<Output = ()>) {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "nothing drains here");
}
