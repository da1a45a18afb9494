//! What came of a soak.

use std::{fmt, time::Duration};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{
    event::SORTS,
    journal::Journal,
    record::{Kept, Record},
    row::Row,
};

/// So many lines of a server's log are shown with a failure.
const SHOWN: usize = 60;

/// What did not hold.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Failed {
    /// Of which server.
    pub server: &'static str,
    /// Since the start.
    pub at: Duration,
    /// What it was.
    pub what: String,
    /// The end of the server's log.
    pub log: Vec<String>,
}

impl Failed {
    pub(super) fn of(
        server: &'static str,
        journal: &Journal,
        what: String,
        log: &[String],
    ) -> Self {
        Self {
            server,
            at: journal.now(),
            what,
            log: log[log.len().saturating_sub(SHOWN)..].to_vec(),
        }
    }
}

/// What came of one server.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OfServer {
    /// Its name.
    pub name: &'static str,
    /// What is known of it.
    #[serde(flatten)]
    pub record: Record,
}

/// What came of a soak. `Display` is a table, and what failed.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Where the order of events came from.
    pub seed: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// What did not hold, if something did not.
    pub failed: Option<Failed>,
    /// Each server.
    pub servers: Vec<OfServer>,
}

impl Report {
    pub(super) fn new(
        seed: u64,
        elapsed: Duration,
        failed: Option<Failed>,
        all: &[(Row, Kept)],
    ) -> Self {
        let servers = all.iter().map(|(row, kept)| OfServer {
            name: row.name,
            record: kept.lock().clone(),
        });
        Self {
            seed,
            elapsed,
            failed,
            servers: servers.collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        let sorts = SORTS.map(|sort| match sort {
            "upgrades" => "rows of upgrades".to_owned(),
            sort => format!("{sort}s"),
        });
        let mut head = ["server", "requests", "lost with a process", "lost late"]
            .map(str::to_owned)
            .to_vec();
        head.extend(sorts);
        head.extend(["generations", "p50", "p99", "max", "KiB first", "KiB last"].map(Into::into));
        table.set_header(head);
        for OfServer { name, record } in &self.servers {
            let mut cells = vec![
                (*name).to_owned(),
                (record.answered + record.lost).to_string(),
                (record.lost - record.lost_late).to_string(),
                record.lost_late.to_string(),
            ];
            cells.extend(SORTS.map(|sort| record.events_of(sort).to_string()));
            cells.push(record.generations.to_string());
            let times = record.samples.iter().map(|sample| sample.latency);
            let [p50, p99, max] = [
                typical(times.clone().filter(|of| of.count > 0).map(|of| of.p50)),
                typical(times.clone().filter(|of| of.count > 0).map(|of| of.p99)),
                times.map(|of| of.max).max().unwrap_or_default(),
            ];
            cells.extend([p50, p99, max].map(|time| format!("{time:.1?}")));
            let memory = record.memory_first_and_last();
            let (first, last) = memory.map_or(("".into(), "".into()), |(first, last)| {
                (first.to_string(), last.to_string())
            });
            cells.extend([first, last]);
            table.add_row(cells);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}")?;
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, "{seconds:.0} s, seed {}", self.seed)?;
        if let Some(failed) = &self.failed {
            for line in &failed.log {
                writeln!(f, "  | {line}")?;
            }
            writeln!(
                f,
                "FAILED at {:.3} s, seed {}: {}: {}",
                failed.at.as_secs_f64(),
                self.seed,
                failed.server,
                failed.what
            )?;
        }
        Ok(())
    }
}

/// That of a second in the middle.
fn typical(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
