//! Instructions of everything that can be counted, by callgrind: `cargo bench -p handover-costs
//! --features peers`, with words behind `--` for the rows that have one of them in their names.

use handover_costs::{callgrind, rows};

fn main() -> anyhow::Result<()> {
    callgrind::tables(rows::questions())
}
