//! What is shown while it runs.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use handover_tests::load::{Report, Snapshot, Storm};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::time::{Instant, interval};

/// How often a terminal is redrawn, and how often a line is written anywhere else.
const REDRAW: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(3);

/// A bar on a terminal; a line now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    name: &'static str,
    bar: Option<ProgressBar>,
    restarts: u64,
    done: u64,
    next_line: Instant,
}

impl Progress {
    pub(crate) fn new(name: &'static str, restarts: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let template = "{spinner} {prefix:10} restart {pos:>2}/{len} [{bar:20}] {msg}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
            let bar = ProgressBar::new(restarts)
                .with_style(style)
                .with_prefix(name);
            bar.enable_steady_tick(REDRAW);
            bar
        });
        Self {
            name,
            bar,
            restarts,
            done: 0,
            next_line: Instant::now() + LINE,
        }
    }

    /// Shows how far the storm is, until `work` is done.
    pub(crate) async fn during<T>(&mut self, storm: &Storm, work: impl Future<Output = T>) -> T {
        let mut redraw = interval(REDRAW);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = redraw.tick() => self.show(storm.snapshot()),
            }
        }
    }

    /// Takes the bar away once the storm has ended.
    pub(crate) async fn during_stop(&mut self, stop: impl Future<Output = Report>) -> Report {
        if let Some(bar) = &self.bar {
            bar.set_message("waiting for the requests under way");
        }
        let report = stop.await;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        report
    }

    pub(crate) fn restarted(&mut self, restart: u64) {
        self.done = restart;
        if let Some(bar) = &self.bar {
            bar.set_position(restart);
        }
    }

    fn show(&mut self, now: Snapshot) {
        let text = || {
            let rate = now.ok as f64 / now.elapsed.as_secs_f64().max(0.1);
            let generation = now
                .generation
                .map_or("none".into(), |number| number.to_string());
            format!(
                "{} requests, {} a second, generation {generation}, {} lost",
                HumanCount(now.ok + now.lost),
                HumanCount(rate as u64),
                HumanCount(now.lost)
            )
        };
        if let Some(bar) = &self.bar {
            bar.set_message(text());
        } else if Instant::now() >= self.next_line {
            self.next_line = Instant::now() + LINE;
            eprintln!(
                "{}: restart {}/{}, {}",
                self.name,
                self.done,
                self.restarts,
                text()
            );
        }
    }
}
