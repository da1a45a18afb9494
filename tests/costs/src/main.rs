//! Prints what each row costs in instructions. With words as arguments, the rows with one of them in
//! their names.

use handover_costs::{callgrind, rows};

fn main() -> anyhow::Result<()> {
    callgrind::tables(rows::questions())
}
