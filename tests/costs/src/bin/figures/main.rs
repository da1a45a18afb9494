//! Draws the figures of the book from the tables that the benchmarks have kept. With words as arguments,
//! those with one of them in their names.

mod book;
mod draw;

use std::{env, fs, path::Path};

use anyhow::Context as _;
use handover_costs::table::Table;

use self::{
    book::Panel,
    draw::{Bar, Chart},
};

/// Where the book has them.
const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../book/src/figures");

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    fs::create_dir_all(FIGURES).context(FIGURES)?;
    for figure in book::FIGURES {
        if words.is_empty() || words.iter().any(|word| figure.name.contains(word)) {
            let charts = figure.panels.iter().map(chart);
            let charts: Vec<_> = charts.collect::<anyhow::Result<_>>()?;
            let path = Path::new(FIGURES).join(format!("{}.svg", figure.name));
            draw::draw(&path, figure.title, &charts)?;
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// What a panel shows of its table.
fn chart(panel: &Panel) -> anyhow::Result<Chart> {
    let table = Table::kept(panel.table).context("run the benchmark that measures it")?;
    let value = |name: &str| {
        let row = table.rows.iter().find(|row| row.name == name);
        let row = row.with_context(|| format!("no row {name:?} in the table {:?}", table.title));
        Ok::<_, anyhow::Error>(row?.value)
    };
    let first = match panel.rows {
        [(name, _), ..] if panel.ratio => value(name)?,
        _ => 1.0,
    };
    let bars = panel.rows.iter().map(|(name, label)| {
        Ok(Bar {
            label,
            value: value(name)? / first,
            ours: name.starts_with("handover"),
        })
    });
    Ok(Chart {
        title: panel.title,
        unit: if panel.ratio { "×" } else { panel.unit },
        bars: bars.collect::<anyhow::Result<_>>()?,
    })
}
