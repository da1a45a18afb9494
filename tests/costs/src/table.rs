//! The tables that the benchmarks print, and keep for the figures.

use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What was measured of rows that answer one question.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Table {
    /// The question.
    pub title: String,
    /// What the values are in.
    pub unit: String,
    /// The rows, the one first that the others stand beside.
    pub rows: Vec<Measured>,
}

/// A line of a table, and of the file that it is kept in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Measured {
    /// What it is called.
    pub name: String,
    /// How much it takes.
    pub value: f64,
    /// Of what: the unit of its table.
    pub unit: String,
}

impl Table {
    /// A table without rows.
    pub fn new(title: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            unit: unit.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, name: impl Into<String>, value: f64) {
        self.rows.push(Measured {
            name: name.into(),
            value,
            unit: self.unit.clone(),
        });
    }

    /// Prints it, with what each row is to the first, and keeps it. A table without rows, since none
    /// was asked for, is left out.
    ///
    /// # Errors
    ///
    /// If the file cannot be written that it is kept in.
    pub fn publish(&self) -> io::Result<()> {
        let Some(first) = self.rows.first() else {
            return Ok(());
        };
        let title = &self.title;
        println!(
            "\n{title:<56} {:>12} {:>12} {:>8}",
            self.unit, "more", "ratio"
        );
        for Measured { name, value, .. } in &self.rows {
            let (more, ratio) = (value - first.value, value / first.value);
            println!("{name:<56} {value:>12.2} {more:>+12.2} {ratio:>8.3}");
        }
        println!();
        self.keep()
    }

    /// Writes it to its file, a line of JSON to each row.
    fn keep(&self) -> io::Result<()> {
        let file = file(&self.title);
        fs::create_dir_all(directory())?;
        let mut lines = String::new();
        for row in &self.rows {
            lines += &serde_json::to_string(row)?;
            lines.push('\n');
        }
        fs::write(file, lines)
    }

    /// The table of this title that a benchmark has kept last.
    ///
    /// # Errors
    ///
    /// If there is none, or it is not one of these.
    pub fn kept(title: &str) -> io::Result<Self> {
        let file = file(title);
        let with_path = |error: io::Error| {
            let file = file.display();
            io::Error::new(
                error.kind(),
                format!("the table {title:?}, {file}: {error}"),
            )
        };
        let text = fs::read_to_string(&file).map_err(with_path)?;
        let rows = text.lines().map(serde_json::from_str);
        let rows: Vec<Measured> = rows
            .collect::<Result<_, _>>()
            .map_err(|error| with_path(error.into()))?;
        let unit = rows.first().map(|row| row.unit.clone()).unwrap_or_default();
        Ok(Self {
            title: title.to_owned(),
            unit,
            rows,
        })
    }
}

/// The sample in the middle, if there is one.
pub fn median(mut samples: Vec<f64>) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}

/// Where tables are kept: with everything that is built.
fn directory() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let beside_us = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target"));
    target.unwrap_or_else(beside_us).join("costs")
}

fn file(title: &str) -> PathBuf {
    let words = title.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    directory().join(format!("{}.jsonl", words.join("-").to_lowercase()))
}
