//! Bytes and allocations, by an allocator that counts. The program that measures installs it:
//! `#[global_allocator] static ALLOCATOR: &Allocator = &INSTRUMENTED_SYSTEM;`.

use std::alloc::System;

use stats_alloc::{Region, StatsAlloc};
use tokio::{
    runtime::{self, Runtime},
    task::yield_now,
};

use crate::rows::Server;

/// What counts.
pub type Allocator = StatsAlloc<System>;

const CONNECTIONS: usize = 1_000;
const TASKS: usize = 10_000;

/// What one of many takes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Cost {
    /// Bytes on the heap.
    pub bytes: f64,
    /// Allocations that they are in.
    pub allocations: f64,
}

impl Cost {
    fn of_each(region: &Region<'_, System>, n: usize) -> Self {
        let change = region.change();
        let bytes = change.bytes_allocated as f64 - change.bytes_deallocated as f64
            + change.bytes_reallocated as f64;
        let allocations = change.allocations as f64 - change.deallocations as f64;
        Self {
            bytes: bytes / n as f64,
            allocations: allocations / n as f64,
        }
    }
}

/// An idle HTTP/1 connection of this server, after its first request.
pub fn idle_connection(server: &Server, allocator: &'static Allocator) -> Cost {
    let runtime = runtime();
    let connector = server.start(&runtime);
    // What the server needs once is there before it is counted.
    let mut first = connector.connect();
    runtime.block_on(first.request());
    let mut clients = Vec::with_capacity(CONNECTIONS);
    let region = Region::new(allocator);
    for _ in 0..CONNECTIONS {
        let mut client = connector.connect();
        runtime.block_on(client.request());
        clients.push(client);
    }
    settle(&runtime);
    Cost::of_each(&region, CONNECTIONS)
}

/// A task that waits for something.
pub fn parked_task<F>(waits: impl Fn() -> F, allocator: &'static Allocator) -> Cost
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = runtime();
    let region = Region::new(allocator);
    for _ in 0..TASKS {
        drop(runtime.spawn(waits()));
    }
    settle(&runtime);
    Cost::of_each(&region, TASKS)
}

fn runtime() -> Runtime {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made")
}

// Every task has been polled, and waits.
fn settle(runtime: &Runtime) {
    runtime.block_on(async {
        for _ in 0..TASKS {
            yield_now().await;
        }
    });
}
