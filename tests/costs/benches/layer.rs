//! A service that answers at once, bare and in a layer, on one thread and on two.

mod support;

use handover_costs::rows;

fn main() {
    let mut criterion = support::criterion();
    for threads in [1, 2] {
        support::compare(&mut criterion, "layer", threads, &rows::layer());
    }
    criterion.final_summary();
}
