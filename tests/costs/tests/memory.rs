//! An idle connection takes no more memory than one of axum's own loop.
#![cfg(not(debug_assertions))]

use handover_costs::{
    memory::{Allocator, idle_connection},
    rows,
};
use stats_alloc::INSTRUMENTED_SYSTEM;

#[global_allocator]
static ALLOCATOR: &Allocator = &INSTRUMENTED_SYSTEM;

#[test]
fn an_idle_connection_takes_less_than_one_of_axum() {
    let servers = rows::http1_servers();
    let idle = |name: &str| {
        let server = servers.iter().find(|server| server.name() == name);
        let cost = idle_connection(server.expect("it is among them"), ALLOCATOR);
        println!("{name}: {} bytes in {}", cost.bytes, cost.allocations);
        cost.bytes
    };
    let axum = idle("axum/serve.with_graceful_shutdown");
    assert!(idle("handover-axum/serve") < 0.65 * axum);
    assert!(idle("handover-hyper/serve") < 1.3 * idle("hyper/http1"));
}
