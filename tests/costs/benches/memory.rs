//! What an idle connection costs in memory: a task that waits to be told, beside one that nothing
//! tracks; and an HTTP/1 connection after its first request, in a whole server.

use std::{
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    task::Poll,
};

use handover::{Address, Connection, Graceful, Phase};
use handover_costs::{
    memory::{Allocator, Cost, idle_connection, parked_task},
    rows,
    table::Table,
};
use stats_alloc::INSTRUMENTED_SYSTEM;
use swansong::Swansong;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[global_allocator]
static ALLOCATOR: &Allocator = &INSTRUMENTED_SYSTEM;

fn main() -> std::io::Result<()> {
    let mut rows = vec![("floor/untracked", parked(pending))];
    let graceful = Graceful::new();
    rows.push((
        "handover/Connection::hold",
        parked(|| {
            let connection = Connection::new(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 1))));
            let mut holder = connection.hold(&graceful).expect("not drained");
            poll_fn(move |cx| {
                while let Poll::Ready(phase) = holder.poll_phase(cx) {
                    if phase >= Phase::Draining {
                        return Poll::Ready(());
                    }
                }
                Poll::Pending
            })
        }),
    ));
    let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
    rows.push((
        "tokio-util/TaskTracker + CancellationToken",
        parked(|| tracker.track_future(token.clone().cancelled_owned())),
    ));
    let swansong = Swansong::new();
    rows.push((
        "swansong/guard + shutting_down",
        parked(|| {
            let (guard, told) = (swansong.guard(), swansong.shutting_down());
            async move {
                told.await;
                drop(guard);
            }
        }),
    ));
    let (_signal, watch) = drain::channel();
    rows.push((
        "drain/Watch",
        parked(|| {
            let watch = watch.clone();
            async move { drop(watch.signaled().await) }
        }),
    ));
    publish("a parked task", &rows)?;

    let servers = rows::http1_servers();
    let rows: Vec<_> = servers
        .iter()
        .map(|server| (server.name(), idle_connection(server, ALLOCATOR)))
        .collect();
    publish("an idle HTTP/1 connection", &rows)
}

fn parked<F>(waits: impl Fn() -> F) -> Cost
where
    F: Future<Output = ()> + Send + 'static,
{
    parked_task(waits, ALLOCATOR)
}

fn publish(title: &str, rows: &[(&str, Cost)]) -> std::io::Result<()> {
    let mut bytes = Table::new(title, "bytes");
    let mut allocations = Table::new(format!("{title}, allocations"), "allocations");
    for (name, cost) in rows {
        bytes.push(*name, cost.bytes);
        allocations.push(*name, cost.allocations);
    }
    bytes.publish()?;
    allocations.publish()
}
