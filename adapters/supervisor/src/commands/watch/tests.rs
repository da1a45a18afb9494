//! What is drawn, of statuses as they come over the control socket.

use std::time::Instant;

use handover::{Status, control::Event};
use ratatui::{Terminal, backend::TestBackend};

use super::{draw::draw, model::Model};

const GOLDEN: &str = include_str!("../../../../../core/tests/golden/control-v1/status.json");

fn golden() -> Box<Status> {
    match Event::from_line(GOLDEN).unwrap() {
        Event::Status { status, .. } => status,
        other => panic!("{other:?}"),
    }
}

fn status(text: &str) -> Box<Status> {
    Box::new(serde_json::from_str(text).unwrap())
}

/// The lines of a terminal of this size.
fn drawn(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let cells = terminal.backend().buffer().content();
    let lines = cells.chunks(usize::from(width));
    let text = |line: &[ratatui::buffer::Cell]| line.iter().map(|cell| cell.symbol()).collect();
    lines
        .map(text)
        .map(|line: String| line.trim_end().to_owned())
        .collect()
}

fn has(lines: &[String], words: &[&str]) -> bool {
    lines
        .iter()
        .any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn a_drain_after_an_upgrade_is_shown_with_both_generations() {
    let lines = drawn(&Model::new(golden(), Instant::now()), 120, 30);
    for words in [
        &[
            "generation 3 (pid 77)",
            "draining",
            "for 1.5 s",
            "1 h 0 min ago",
        ][..],
        &["58.0 s until the deadline", "upgrade to pid 78"],
        &["Upgrade, for 2.0 s, process 78"],
        &[
            "starting › checking › initialising › ready › [draining]",
            "listening",
        ],
        &["3", "77", "draining", "12", "8.5 s", "58.0 s"],
        &["2", "76", "draining", "12", "8.5 s"],
        &["request", "3", "█"],
        &["What holds a drain open: 12 connections, 3 requests, 1 task"],
        &["Upgrades (1 failed)"],
        &["to generation 3", "1 h 0 min ago", "serves"],
        &["q quits"],
    ] {
        assert!(has(&lines, words), "{words:?}:\n{}", lines.join("\n"));
    }
}

#[test]
fn holders_of_all_generations_are_shown_the_oldest_first() {
    let status = status(
        r#"{"generation":4,"pid":5,"standing":"running",
        "held":{"oldest":[{"kind":"request","what":"GET /new","peer":"10.0.0.3:51234","age_seconds":2.0,
            "traffic":{"received":312,"sent":1250000,"quiet_seconds":0.5}},
            {"kind":"later","age_seconds":9.0}]},
        "older":[{"pid":4,"generation":3,"release":"2.7.1","age_seconds":90.0,"remaining_seconds":12.0,
            "held":{"oldest":[{"kind":"task","what":"\u001b[2Jnightly","age_seconds":71.0}]}}]}"#,
    );
    let lines = drawn(&Model::new(status, Instant::now()), 140, 24);
    let at = |word: &str| lines.iter().position(|line| line.contains(word));
    let (old, new) = (at("nightly").unwrap(), at("GET /new").unwrap());
    assert!(old < new, "{lines:?}");
    assert!(lines[old].starts_with("task of 3"), "{lines:?}");
    assert!(lines[old].contains("\u{fffd}[2Jnightly"), "{lines:?}");
    assert!(lines[new].contains("10.0.0.3:51234"), "{lines:?}");
    assert!(
        lines[new].contains("312 B in, 1.2 MB out, quiet for 0.5 s"),
        "{lines:?}"
    );
    assert!(
        has(
            &lines,
            &["3", "2.7.1", "4", "draining", "1 min 30 s", "12.0 s"]
        ),
        "{lines:?}"
    );
}

#[test]
fn why_an_upgrade_failed_is_shown_and_that_nobody_answers() {
    let status = status(
        r#"{"standing":"running","failed_upgrades":2,"recent_upgrades":[
        {"generation":1,"error":"the successor (pid 75) ended\nno database","ago_seconds":60.0}]}"#,
    );
    let mut model = Model::new(status, Instant::now());
    let lines = drawn(&model, 100, 20);
    let words = [
        "to generation 1",
        "1 min 0 s ago",
        "(pid 75) ended no database",
    ];
    assert!(has(&lines, &words), "{lines:?}");
    model.no_answer = Some("the time is over".to_owned());
    let lines = drawn(&model, 100, 20);
    assert!(
        has(&lines, &["no answer"]) && has(&lines, &["the time is over"]),
        "{lines:?}"
    );
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let mut model = Model::new(golden(), Instant::now());
    model.update(status("{}"), Instant::now());
    model.update(golden(), Instant::now());
    for width in [1, 2, 10, 40, 79, 200, 500] {
        for height in [1, 2, 5, 10, 24, 100] {
            let lines = drawn(&model, width, height);
            assert_eq!(lines.len(), usize::from(height));
        }
    }
}
