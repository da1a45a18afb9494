//! What is shown while it runs.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::time::{Instant, interval};

use super::{record::Kept, row::Row};

/// How often a terminal is redrawn, and how often a line is written anywhere else.
const REDRAW: Duration = Duration::from_millis(500);
const LINE: Duration = Duration::from_secs(15);

/// Shows how far it is, a bar on a terminal and a line now and then elsewhere, until it is dropped.
pub(super) async fn show(all: &[(Row, Kept)], length: Duration) {
    let start = Instant::now();
    let bar = stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} [{bar:30}] {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        ProgressBar::new(length.as_secs()).with_style(style)
    });
    let mut redraw = interval(match bar {
        Some(_) => REDRAW,
        None => LINE,
    });
    loop {
        redraw.tick().await;
        let text = line(all, start.elapsed(), length);
        match &bar {
            Some(bar) => {
                bar.set_position(start.elapsed().as_secs());
                bar.set_message(text);
            }
            None => eprintln!("{text}"),
        }
    }
}

fn line(all: &[(Row, Kept)], elapsed: Duration, length: Duration) -> String {
    let sum = |of: fn(&super::Record) -> u64| all.iter().map(|(_, kept)| of(&kept.lock())).sum();
    let [answered, lost, events]: [u64; 3] = [
        sum(|record| record.answered),
        sum(|record| record.lost),
        sum(|record| record.events.len() as u64),
    ];
    format!(
        "{:.0} of {:.0} s: {} servers, {} events, {} requests, {} lost and excused",
        elapsed.as_secs_f64(),
        length.as_secs_f64(),
        all.len(),
        HumanCount(events),
        HumanCount(answered + lost),
        HumanCount(lost)
    )
}
