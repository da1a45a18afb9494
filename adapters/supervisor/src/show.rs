//! Shows what a service says: as JSON, as lines, or on a terminal as one line that changes.

use std::{
    error::Error as _,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use handover::{control::Event, status::Held};
use handover_supervisor::Error;
use indicatif::{ProgressBar, ProgressStyle};

/// How often a drain is shown in lines although its numbers have not changed.
const SELDOM: Duration = Duration::from_secs(10);

/// Where events are shown.
pub(crate) struct Show {
    json: bool,
    /// On a terminal.
    bar: Option<ProgressBar>,
    /// The process that answers.
    pid: u32,
    shown: Option<(Instant, String)>,
}

impl Show {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = !json && io::stdout().is_terminal() && io::stderr().is_terminal();
        Self {
            bar: terminal.then(bar),
            ..Self::lines(json)
        }
    }

    /// As lines, also on a terminal.
    pub(crate) fn lines(json: bool) -> Self {
        Self {
            json,
            bar: None,
            pid: 0,
            shown: None,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn event(&mut self, event: &Event) {
        if self.json {
            // If nobody reads it, there is nobody to be told.
            let _ = io::stdout().write_all(event.to_line().as_bytes());
            return;
        }
        if let Event::Begun { pid, .. } = event {
            self.pid = *pid;
        }
        if let Event::Draining {
            held, remaining, ..
        } = event
        {
            return self.draining(held, *remaining);
        }
        let Some(text) = self.text(event) else { return };
        let text = clean(&text);
        if let Some(bar) = &self.bar {
            let next = match event {
                Event::Begun { .. } => "starting a successor".to_owned(),
                _ => text.clone(),
            };
            bar.set_message(next);
        }
        if is_bad(event) {
            self.print(&mut io::stderr(), &format!("handover: {text}"));
        } else {
            self.print(&mut io::stdout(), &text);
        }
        if event.is_last() {
            self.end();
        }
    }

    pub(crate) fn error(&mut self, err: &Error) {
        let cause = err.source().map(|source| format!(": {source}"));
        let text = format!("handover: {err}{}", cause.unwrap_or_default());
        self.print(&mut io::stderr(), &clean(&text));
        self.end();
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn draining(&mut self, held: &Held, remaining: Option<Duration>) {
        let pid = self.pid;
        let left = remaining.map(|left| format!("; at most {} s more", left.as_secs()));
        let text = format!("process {pid} drains: {held}{}", left.unwrap_or_default());
        if let Some(bar) = &self.bar {
            return bar.set_message(text);
        }
        let numbers = (held.connections, held.requests, held.tasks);
        let numbers = format!("{numbers:?}");
        let news = self
            .shown
            .as_ref()
            .is_none_or(|(at, before)| *before != numbers || at.elapsed() >= SELDOM);
        if news {
            self.print(&mut io::stdout(), &text);
            self.shown = Some((Instant::now(), numbers));
        }
    }

    fn print(&self, to: &mut impl Write, text: &str) {
        let mut print = || {
            let _ = writeln!(to, "{text}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn text(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Begun {
                pid, generation, ..
            } => format!("generation {generation} (pid {pid}) answers"),
            Event::Checking { pid, .. } => format!("process {pid} tries the program"),
            Event::Checked { pid, .. } => format!("process {pid} could become ready"),
            Event::Starting {
                pid, generation, ..
            } => format!("process {pid} starts, generation {generation}"),
            Event::Initialising { pid, text, .. } => format!("process {pid}: {text}"),
            Event::Ready { pid, .. } => format!("process {pid} is ready"),
            Event::Serving {
                pid, generation, ..
            } => format!("process {pid} serves, generation {generation}"),
            Event::Drained { text, .. } => format!("process {}: {text}", self.pid),
            Event::Cut { pids, .. } => {
                let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
                format!("cut: process {}", pids.join(", "))
            }
            Event::Reexecuted { pid, release, .. } => {
                format!("process {pid} runs its new program, version {release}")
            }
            Event::Failed { message, .. } => format!("the upgrade failed: {message}"),
            Event::Resumed { message, .. } => {
                format!(
                    "the upgrade failed: {message}; process {} serves again",
                    self.pid
                )
            }
            Event::Refused { message, .. } => format!("refused: {message}"),
            _ => return None,
        })
    }
}

fn is_bad(event: &Event) -> bool {
    matches!(
        event,
        Event::Failed { .. } | Event::Resumed { .. } | Event::Refused { .. }
    )
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Without what a terminal would act on: the words are a program's.
pub(crate) fn clean(text: &str) -> String {
    let visible = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_commanded() {
        assert_eq!(clean("a\x1b[2Jb\tc\nd\u{9b}"), "a\u{fffd}[2Jb c\nd\u{fffd}");
    }
}
