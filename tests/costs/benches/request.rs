//! A whole HTTP/1 request on an open connection, without a kernel between client and server.

mod support;

use handover_costs::rows;

fn main() {
    let mut criterion = support::criterion();
    support::compare(&mut criterion, "request", 1, &rows::request());
    criterion.final_summary();
}
