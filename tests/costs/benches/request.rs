//! Whole requests, without a kernel between client and server: HTTP/1 on an open connection and with a
//! connection for each, HTTP/2, and unary calls of gRPC.

mod support;

use handover_costs::rows;

fn main() {
    let mut criterion = support::criterion();
    for (title, rows) in [
        ("request", rows::request()),
        ("new connection", rows::new_connection()),
        ("http2", rows::http2()),
        ("grpc", rows::grpc()),
    ] {
        support::compare(&mut criterion, title, 1, &rows);
    }
    criterion.final_summary();
}
