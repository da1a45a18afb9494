//! `PROMISES.md` has every promise, and the tests that it and `SECURITY.md` name exist.

#[path = "support/documents.rs"]
mod documents;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use self::documents::{has, rows};

/// How many promises there are.
const PROMISES: u32 = 12;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap()
}

/// The links to files, with their texts.
fn links(text: &str) -> Vec<(&str, &str)> {
    let ends = text.match_indices("](").map(|(at, _)| at);
    let links = ends.filter_map(|at| {
        let (_, name) = text[..at].rsplit_once('[')?;
        let (file, _) = text[at + 2..].split_once(')')?;
        (!file.contains("://")).then_some((name, file))
    });
    links.collect()
}

/// What a document names and is not there, and how many tests it names.
fn missing(document: &str) -> (Vec<String>, usize) {
    let text = read(document);
    let path = root().join(document);
    let dir = path.parent().unwrap();
    let mut sources = HashMap::new();
    let (mut missing, mut named) = (Vec::new(), 0);
    for (name, link) in links(&text) {
        let file = link.split('#').next().unwrap_or(link);
        let source = sources
            .entry(file)
            .or_insert_with(|| fs::read_to_string(dir.join(file)).ok());
        let test = name
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix('`'));
        match (source, test) {
            (None, _) => missing.push(format!("{document}: there is no file {file}")),
            (Some(source), Some(name)) if file.ends_with(".rs") => {
                named += 1;
                if !has(source, name) {
                    missing.push(format!("{document}: {file} has no test {name}"));
                }
            }
            _ => {}
        }
    }
    (missing, named)
}

#[test]
fn every_test_that_is_named_exists() {
    for (document, at_least) in [("tests/PROMISES.md", 60), ("SECURITY.md", 40)] {
        let (missing, named) = missing(document);
        assert!(missing.is_empty(), "{}", missing.join("\n"));
        assert!(named >= at_least, "{document} names only {named} tests");
    }
}

/// Fails if a promise is left out, or its row says neither how it was seen broken nor that it was not.
#[test]
fn every_promise_has_its_row() {
    let text = read("tests/PROMISES.md");
    let rows = rows(&text, "The table");
    assert_eq!(rows.len(), PROMISES as usize);
    for (number, row) in (1..).zip(rows) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, promise, tests, red, figure, date] = cells[..] else {
            panic!("not six columns: {row}");
        };
        assert_eq!(name, format!("P{number}"));
        for (what, cell) in [("promise", promise), ("red", red), ("figure", figure)] {
            assert!(!cell.is_empty(), "P{number} has no {what}");
        }
        assert!(
            tests.contains("](") || tests.contains("no test"),
            "P{number}: {tests}"
        );
        assert!(
            date.len() == 10 && date.split('-').count() == 3,
            "P{number}: {date}"
        );
    }
}
