//! What is shown at the end.

use std::{fmt::Write as _, time::Duration};

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use handover_tests::load::{Failure, Kind, KindReport, Report};
use indicatif::HumanCount;

use crate::drive::Outcome;

/// All tables, with one row or column per server wherever there are several.
pub(crate) fn all(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", by_kind(outcomes));
    for outcome in outcomes {
        let (name, reconnects) = (outcome.name, outcome.report.reconnects());
        let _ = writeln!(
            text,
            "{name}: reconnects: {}, of clients that keep their connection",
            HumanCount(reconnects)
        );
        match outcome.report.lost() {
            0 => {
                let _ = writeln!(text, "{}: not one request was lost", outcome.name);
            }
            lost => {
                let count = HumanCount(lost);
                let _ = writeln!(text, "{}: {count} requests were lost", outcome.name);
                let _ = writeln!(text, "{}", by_class(&outcome.report));
            }
        }
    }
    let _ = write!(text, "{}", restarts(outcomes));
    text
}

fn by_kind(outcomes: &[Outcome]) -> Table {
    let heads = [
        "requests",
        "lost",
        "told to reconnect",
        "found closed",
        "p99",
        "max",
    ];
    let mut table = table(["requests of", "to"].into_iter().chain(heads));
    for kind in Kind::ALL {
        for outcome in outcomes {
            let Some(of) = outcome.report.kind(kind) else {
                continue;
            };
            table.add_row(row([
                kind.to_string(),
                outcome.name.into(),
                count(of.requests),
                count(of.lost()),
                count(of.told),
                count(of.found_closed),
                millis(of.p99),
                millis(of.max),
            ]));
        }
    }
    for outcome in outcomes {
        let report = &outcome.report;
        table.add_row(row([
            "all".into(),
            outcome.name.into(),
            count(report.requests()),
            count(report.lost()),
            count(report.told()),
            count(report.found_closed()),
            String::new(),
            String::new(),
        ]));
    }
    table
}

/// Losses of one server: a row for each class, a column for each kind that lost any.
fn by_class(report: &Report) -> Table {
    let kinds: Vec<&KindReport> = report.kinds.iter().filter(|kind| kind.lost() > 0).collect();
    let names = kinds.iter().map(|kind| kind.kind.name());
    let mut table = table(["lost as"].into_iter().chain(names).chain(["all"]));
    for failure in Failure::ALL {
        let all = report.lost_as(failure);
        if all == 0 {
            continue;
        }
        let of = |kind: &KindReport| {
            kind.losses
                .iter()
                .find(|(class, _)| *class == failure)
                .map_or(0, |(_, count)| *count)
        };
        let counts = kinds.iter().map(|kind| count(of(kind)));
        table.add_row(row([failure.to_string()]
            .into_iter()
            .chain(counts)
            .chain([count(all)])));
    }
    table
}

fn restarts(outcomes: &[Outcome]) -> Table {
    let mut table = table(
        ["restarts"]
            .into_iter()
            .chain(outcomes.iter().map(|o| o.name)),
    );
    let mut line = |what: &str, of: &dyn Fn(&Outcome) -> String| {
        table.add_row(row([what.to_owned()]
            .into_iter()
            .chain(outcomes.iter().map(of))));
    };
    line("brought a new generation", &|outcome| {
        format!(
            "{} of {}",
            outcome.report.restarts_taken(),
            outcome.restarts
        )
    });
    line("lost requests, in all", &|outcome| {
        count(outcome.report.lost())
    });
    line("in which a request was lost", &|outcome| {
        outcome
            .report
            .marks
            .iter()
            .filter(|mark| mark.lost > 0)
            .count()
            .to_string()
    });
    line(
        "until the new generation answers (median / max)",
        &|outcome| spread(outcome.report.marks.iter().filter_map(|mark| mark.took)),
    );
    line(
        "longest without an answer to a new connection",
        &|outcome| {
            let gaps = outcome.report.marks.iter().map(|mark| mark.longest_gap);
            gaps.max().map_or_else(dash, millis)
        },
    );
    line("the same before the first restart", &|outcome| {
        millis(outcome.report.gap_before)
    });
    line("until the old process is gone (median / max)", &|outcome| {
        spread(outcome.report.marks.iter().filter_map(|mark| mark.gone))
    });
    line("requests a second, over all", &|outcome| {
        let report = &outcome.report;
        count((report.requests() as f64 / report.elapsed.as_secs_f64().max(0.001)) as u64)
    });
    table
}

fn table<'a>(heads: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(row(heads.into_iter().map(str::to_owned)));
    table
}

/// Names to the left, figures to the right.
fn row(cells: impl IntoIterator<Item = String>) -> Vec<Cell> {
    let cells = cells.into_iter().map(|text| {
        let figure = text
            .chars()
            .next()
            .is_some_and(|first| first.is_ascii_digit());
        let side = if figure {
            CellAlignment::Right
        } else {
            CellAlignment::Left
        };
        Cell::new(text).set_alignment(side)
    });
    cells.collect()
}

fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{millis:.0} ms")
    }
}

fn spread(durations: impl Iterator<Item = Duration>) -> String {
    let mut sorted: Vec<Duration> = durations.collect();
    sorted.sort_unstable();
    match sorted.last() {
        None => dash(),
        Some(max) => format!("{} / {}", millis(sorted[sorted.len() / 2]), millis(*max)),
    }
}

fn dash() -> String {
    "-".into()
}
