//! Tracking a connection, on one thread and on two.

mod support;

use handover_costs::rows;

fn main() {
    let mut criterion = support::criterion();
    for threads in [1, 2] {
        support::compare(&mut criterion, "connection", threads, &rows::connection());
    }
    criterion.final_summary();
}
