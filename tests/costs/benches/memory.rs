//! What an idle connection costs in memory: a task that waits to be told, beside one that nothing
//! tracks; and an HTTP/1 connection after its first request, in a whole server.

use std::{
    alloc::System,
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    task::Poll,
};

use handover::{Address, Connection, Graceful, Phase};
use handover_costs::rows;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use swansong::Swansong;
use tokio::{
    runtime::{self, Runtime},
    task::yield_now,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TASKS: usize = 10_000;
const CONNECTIONS: usize = 1_000;

fn main() {
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
    print("a parked task", &rows);

    let servers = rows::servers();
    let rows: Vec<_> = servers
        .iter()
        .map(|server| (server.name(), idle(server)))
        .collect();
    print("an idle HTTP/1 connection", &rows);
}

/// Bytes and allocations of one.
type Cost = (f64, f64);

fn parked<F>(waits: impl Fn() -> F) -> Cost
where
    F: Future<Output = ()> + Send + 'static,
{
    on_a_runtime(|runtime| {
        let region = Region::new(ALLOCATOR);
        for _ in 0..TASKS {
            drop(runtime.spawn(waits()));
        }
        settle(runtime);
        cost(&region, TASKS)
    })
}

fn idle(server: &rows::Server) -> Cost {
    on_a_runtime(|runtime| {
        let connector = server.start(runtime);
        // What the server needs once is there before it is counted.
        let mut first = connector.connect();
        runtime.block_on(first.request());
        let mut clients = Vec::with_capacity(CONNECTIONS);
        let region = Region::new(ALLOCATOR);
        for _ in 0..CONNECTIONS {
            let mut client = connector.connect();
            runtime.block_on(client.request());
            clients.push(client);
        }
        settle(runtime);
        cost(&region, CONNECTIONS)
    })
}

fn on_a_runtime<T>(measure: impl FnOnce(&Runtime) -> T) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    measure(&runtime.expect("a runtime can be made"))
}

// Every task has been polled, and waits.
fn settle(runtime: &Runtime) {
    runtime.block_on(async {
        for _ in 0..TASKS {
            yield_now().await;
        }
    });
}

fn cost(region: &Region<'_, System>, n: usize) -> Cost {
    let change = region.change();
    let bytes = change.bytes_allocated as f64 - change.bytes_deallocated as f64
        + change.bytes_reallocated as f64;
    let blocks = change.allocations as f64 - change.deallocations as f64;
    (bytes / n as f64, blocks / n as f64)
}

fn print(title: &str, rows: &[(&str, Cost)]) {
    println!(
        "\n{title:<56} {:>10} {:>10} {:>12}",
        "bytes", "more", "allocations"
    );
    let first = rows.first().map_or(0.0, |(_, (bytes, _))| *bytes);
    for (name, (bytes, blocks)) in rows {
        let more = bytes - first;
        println!("{name:<56} {bytes:>10.0} {more:>+10.0} {blocks:>12.2}");
    }
}
