//! What has been reached in speed is kept: instructions by callgrind, which repeat on any machine.
//!
//! Only in release, and with valgrind; see this crate's README.
#![cfg(not(debug_assertions))]

use std::path::Path;

use handover_costs::{
    Row,
    callgrind::{count_row, is_available},
    rows,
};

/// Counts the instructions of rows by their names.
fn costs<const N: usize>(names: [&str; N]) -> [f64; N] {
    assert!(is_available(), "needs valgrind in the path");
    let program = Path::new(env!("CARGO_BIN_EXE_handover-costs"));
    let questions = rows::questions();
    let all: Vec<_> = questions
        .iter()
        .flat_map(|q| &q.rows)
        .map(Row::name)
        .collect();
    names.map(|name| {
        let nth = all.iter().position(|other| *other == name);
        let nth = nth.unwrap_or_else(|| panic!("there is no row {name}"));
        let count = count_row(program, nth).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        println!("{name}: {count:.1} instructions");
        count
    })
}

#[test]
fn a_guard_costs_no_more_than_it_did() {
    let [guard, check] = costs(["handover/guard", "handover/Graceful::is_draining"]);
    assert!(guard <= 68.0, "a guard takes {guard} instructions");
    assert!(check <= 15.0, "is_draining takes {check} instructions");
}

#[test]
fn a_layer_costs_no_more_than_it_did() {
    let [bare, layered] = costs(["tower/a bare call", "handover/GracefulLayer::without_token"]);
    let more = layered - bare;
    assert!(more <= 620.0, "the layer adds {more} instructions");
}

#[test]
fn a_request_costs_no_more_than_it_did() {
    let [bare, ours, without_extensions] = costs([
        "hyper/http1",
        "handover-hyper/http1_only",
        "handover-hyper/http1_only.without_extensions",
    ]);
    let more = ours - bare;
    assert!(more <= 2900.0, "the serve loop adds {more} instructions");
    let more = without_extensions - bare;
    assert!(more <= 1800.0, "without extensions it adds {more}");
}
