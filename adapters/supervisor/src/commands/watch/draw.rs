//! Draws a service on a terminal, whatever its size: what does not fit is left out, the last first.

use std::time::Duration;

use handover::{
    Holding,
    status::{Held, Standing, Status, Step, Upgrade},
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph, RenderDirection, Row, Sparkline, Table},
};

use super::model::Model;
use crate::{commands::status::time, show::clean};

const STEPS: [(Step, &str); 5] = [
    (Step::Starting, "starting"),
    (Step::Checking, "checking"),
    (Step::Initialising, "initialising"),
    (Step::Ready, "ready"),
    (Step::Draining, "draining"),
];
/// How wide the names of the states and their numbers are.
const STATE: u16 = 24;

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let status = &*model.status;
    let states: Vec<_> = model.states().collect();
    let holders = holders(status);
    let generations = 1 + status.workers.len() + status.older.len();
    let rows = |count: usize| Constraint::Length(u16::try_from(count + 2).unwrap_or(u16::MAX));
    let shown_if = |is_there: bool, rows| if is_there { rows } else { 0 };
    let [
        head,
        upgrade,
        of_generations,
        connections,
        of_holders,
        of_upgrades,
        keys,
    ] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(shown_if(status.upgrade.is_some(), 3)),
        rows(generations),
        Constraint::Length(shown_if(
            !states.is_empty(),
            1 + u16::try_from(states.len()).unwrap_or(1),
        )),
        // The most interesting one has what the others leave.
        Constraint::Fill(1),
        Constraint::Length(shown_if(
            !status.recent_upgrades.is_empty(),
            2 + u16::try_from(status.recent_upgrades.len().min(3)).unwrap_or(1),
        )),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(title(model)), head);
    if let Some(under_way) = &status.upgrade {
        frame.render_widget(steps(under_way), upgrade);
    }
    frame.render_widget(generations_table(status), of_generations);
    draw_states(frame, connections, &states);
    frame.render_widget(holders_table(holders, status), of_holders);
    frame.render_widget(upgrades_table(status), of_upgrades);
    frame.render_widget(Line::from("q quits").dim(), keys);
}

fn title(model: &Model) -> Vec<Line<'_>> {
    let status = &*model.status;
    let standing = match &model.no_answer {
        None => Span::from(format!(" {} ", status.standing)).style(colour(status.standing)),
        Some(_) => Span::from(" no answer ").style(colour(Standing::Drained)),
    };
    let for_so_long = format!(
        " for {}, started {} ago  ",
        time(status.since),
        time(status.age)
    );
    let first = Line::from(vec![
        format!("generation {} (pid {}) ", status.generation, status.pid).bold(),
        standing,
        for_so_long.into(),
    ]);
    let mut said = Vec::new();
    if let Some(left) = status.remaining {
        said.push(format!("{} until the deadline", time(left)).bold());
    }
    let why = model.no_answer.as_ref().or(status.reason.as_ref());
    if let Some(why) = why.or(status.progress.as_ref()) {
        let comma = if said.is_empty() { "" } else { "  " };
        said.push(format!("{comma}{}", clean(why)).into());
    }
    vec![first, Line::from(said)]
}

fn colour(standing: Standing) -> Style {
    let background = match standing {
        Standing::Running => Color::Green,
        Standing::Cutting | Standing::Drained => Color::Red,
        Standing::Unknown => Color::Gray,
        _ => Color::Yellow,
    };
    Style::new().fg(Color::Black).bg(background)
}

fn steps(upgrade: &Upgrade) -> Table<'_> {
    let at = STEPS.iter().position(|(step, _)| *step == upgrade.step);
    let mut line = Vec::new();
    for (index, (_, name)) in STEPS.iter().enumerate() {
        let step = match at {
            Some(at) if index < at => Span::from(*name).fg(Color::Green),
            Some(at) if index == at => format!("[{name}]").bold().fg(Color::Yellow),
            _ => Span::from(*name).dim(),
        };
        line.extend([step, " › ".dim()]);
    }
    line.pop();
    if let Some(progress) = &upgrade.progress {
        line.push(format!("   {}", clean(progress)).into());
    }
    let successor = upgrade.successor.map(|pid| format!(", process {pid}"));
    let title = format!(
        "Upgrade, for {}{}",
        time(upgrade.age),
        successor.unwrap_or_default()
    );
    Table::new([Row::new([Line::from(line)])], [Constraint::Fill(1)]).block(block(title))
}

fn generations_table(status: &Status) -> Table<'_> {
    let numbers = |held: Option<&Held>| match held {
        Some(held) => [
            held.connections.to_string(),
            held.requests.to_string(),
            held.tasks.to_string(),
            some_time(Some(held.longest)),
        ],
        None => <[String; 4]>::default(),
    };
    let row = |generation: u64,
               release: &Option<String>,
               pid: u32,
               standing: Standing,
               age,
               held,
               left| {
        let [connections, requests, tasks, longest] = numbers(held);
        Row::new([
            generation.to_string(),
            release.as_deref().map(clean).unwrap_or_default(),
            pid.to_string(),
            standing.to_string(),
            some_time(age),
            connections,
            requests,
            tasks,
            longest,
            some_time(left),
        ])
    };
    let mut rows = vec![row(
        status.generation,
        &status.release,
        status.pid,
        status.standing,
        Some(status.age),
        Some(&status.held),
        status.remaining,
    )];
    rows.extend(status.workers.iter().map(|worker| {
        let age = Some(worker.age);
        row(
            worker.generation,
            &None,
            worker.pid,
            worker.standing,
            age,
            None,
            None,
        )
    }));
    rows.extend(status.older.iter().rev().map(|older| {
        let (held, left) = (older.held.as_ref(), older.remaining);
        row(
            older.generation,
            &older.release,
            older.pid,
            Standing::Draining,
            older.age,
            held,
            left,
        )
    }));
    let names = [
        "generation",
        "release",
        "process",
        "stands",
        "age",
        "conns",
        "requests",
        "tasks",
        "longest",
        "left",
    ];
    let widths = [10, 12, 8, 10, 12, 7, 8, 6, 12, 12].map(Constraint::Length);
    Table::new(rows, widths)
        .header(Row::new(names).dim())
        .block(Block::new())
}

fn draw_states(frame: &mut Frame<'_>, area: Rect, states: &[(&'static str, u64, Vec<u64>)]) {
    let block = block("Connections, each second".to_owned());
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let lines = Layout::vertical(vec![Constraint::Length(1); states.len()]).split(inside);
    for ((name, now, past), line) in states.iter().zip(lines.iter()) {
        let sides = Layout::horizontal([Constraint::Length(STATE), Constraint::Fill(1)]);
        let [left, right] = sides.areas(*line);
        frame.render_widget(Line::from(format!("{name:<14} {now:>7}")), left);
        let past = Sparkline::default()
            .data(past)
            .direction(RenderDirection::RightToLeft)
            .style(Color::Cyan);
        frame.render_widget(past, right);
    }
}

/// Those of all generations, the oldest first.
fn holders(status: &Status) -> Vec<(Option<u64>, &Holding)> {
    let mut all: Vec<_> = status.held.oldest.iter().map(|one| (None, one)).collect();
    for older in &status.older {
        let oldest = older.held.iter().flat_map(|held| &held.oldest);
        all.extend(oldest.map(|one| (Some(older.generation), one)));
    }
    all.sort_by_key(|(_, one)| std::cmp::Reverse(one.age));
    all
}

fn holders_table<'a>(all: Vec<(Option<u64>, &'a Holding)>, status: &Status) -> Table<'a> {
    let rows = all.into_iter().map(|(generation, one)| {
        let of = generation.map(|generation| format!(" of {generation}"));
        let what = one.what.as_deref().map(clean).unwrap_or_default();
        let peer = one.peer.as_deref().map(clean).unwrap_or_default();
        let traffic = one.traffic.as_ref().map(ToString::to_string);
        Row::new([
            one.kind.to_string() + &of.unwrap_or_default(),
            what,
            peer,
            time(one.age),
            traffic.unwrap_or_default(),
        ])
    });
    let widths = [
        Constraint::Length(16),
        Constraint::Fill(2),
        Constraint::Length(21),
        Constraint::Length(11),
        Constraint::Fill(3),
    ];
    let title = format!("What holds a drain open: {}", status.held);
    Table::new(rows, widths)
        .header(Row::new(["kind", "what", "peer", "since", "passed"]).dim())
        .block(block(title))
}

fn upgrades_table(status: &Status) -> Table<'_> {
    let rows = status.recent_upgrades.iter().take(3).map(|past| {
        let outcome = match &past.error {
            None => Span::from("serves").fg(Color::Green),
            // One line each: the end of many says most.
            Some(error) => Span::from(clean(error).replace('\n', " ")).fg(Color::Red),
        };
        Row::new([
            Line::from(format!("to generation {}", past.generation)),
            Line::from(format!("{} ago", time(past.ago))),
            Line::from(outcome),
        ])
    });
    let widths = [
        Constraint::Length(20),
        Constraint::Length(16),
        Constraint::Fill(1),
    ];
    let failed = match status.failed_upgrades {
        0 => String::new(),
        failed => format!(" ({failed} failed)"),
    };
    Table::new(rows, widths).block(block(format!("Upgrades{failed}")))
}

fn block(title: String) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title.bold())
}

fn some_time(span: Option<Duration>) -> String {
    span.filter(|span| !span.is_zero())
        .map(time)
        .unwrap_or_default()
}
