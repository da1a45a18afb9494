//! `COVERED.md` names tests that exist, and leaves no line out.

use std::{collections::HashMap, fs, path::Path};

/// The tests of tableflip.
const TABLEFLIP: [&str; 31] = [
    "TestUpgraderOnOS",
    "TestUpgraderCleanExit",
    "TestUpgraderUncleanExit",
    "TestUpgraderTimeout",
    "TestUpgraderListenConfig",
    "TestUpgraderConcurrentUpgrade",
    "TestHasParent",
    "TestUpgraderWaitForParent",
    "TestUpgraderReady",
    "TestUpgraderShutdownCancelsUpgrade",
    "TestReadyWritesPIDFile",
    "TestWritePidFileWithoutPath",
    "TestFdsAddListener",
    "TestFdsAddPacketConn",
    "TestFdsListen",
    "TestFdsListenWithCallback",
    "TestFdsListenDynamicPort",
    "TestFdsListenPacketDynamicPort",
    "TestFdsRemoveUnix",
    "TestFdsConn",
    "TestFdsFile",
    "TestFdsFiles",
    "TestChildExit",
    "TestChildKill",
    "TestChildNotReady",
    "TestChildReady",
    "TestChildPassedFds",
    "TestParentExit",
    "TestFilesAreNonblocking",
    "TestArgumentsArePassedCorrectly",
    "testing.TestFdsListen",
];

/// The rows of the table under a heading.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, rest) = text.split_once(&format!("## {heading}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.skip(1).collect()
}

/// Whether a file has a test of this name: a function, or an entry of a macro that makes one of it.
/// A function that a table runs against each server is in that table as well.
fn has(source: &str, name: &str) -> bool {
    let tests = source.contains("#[test]") || source.contains("tokio::test");
    let function = source.contains(&format!("fn {name}("));
    let entry = source.contains(&format!("\n    {name}: "));
    let listed = source.contains(&format!("\n    {name},"));
    let by_server = source.contains(&format!("fn {name}(way: Way)"));
    tests && entry || (if by_server { listed } else { tests }) && function
}

#[test]
fn every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("tests/COVERED.md")).unwrap();
    let mut sources = HashMap::new();
    let (mut named, mut missing) = (0, Vec::new());
    for (file, name) in text.split('`').filter_map(|code| code.split_once("::")) {
        let source = sources
            .entry(file)
            .or_insert_with(|| fs::read_to_string(root.join(file)).unwrap_or_default());
        if !has(source, name) {
            missing.push(format!("{file} has no test {name}"));
        }
        named += 1;
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(named > 81, "{named}");
    assert!(!has("#[test] fn a() {}", "b"), "anything would do");
}

#[test]
fn no_line_is_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("COVERED.md")).unwrap();
    let first = |row: &str| {
        row.split(" | ")
            .next()
            .unwrap()
            .trim_matches(['|', ' '])
            .to_owned()
    };
    let theirs: Vec<_> = rows(&text, "The tests of tableflip")
        .into_iter()
        .map(first)
        .collect();
    assert_eq!(theirs, TABLEFLIP);
    for (heading, count) in [("Cases that they leave out", 23), ("Races", 27)] {
        let numbers: Vec<_> = rows(&text, heading).into_iter().map(first).collect();
        let all: Vec<_> = (1..=count).map(|number: u32| number.to_string()).collect();
        assert_eq!(numbers, all, "{heading}");
    }
}
