//! Taking and dropping what holds a drain open, on one thread and on two.

mod support;

use handover_costs::rows;

fn main() {
    let mut criterion = support::criterion();
    for threads in [1, 2] {
        support::compare(&mut criterion, "guard", threads, &rows::guard());
    }
    criterion.final_summary();
}
