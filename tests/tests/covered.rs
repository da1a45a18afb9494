//! `COVERED.md` names tests that exist, and leaves no line out.

#[path = "support/documents.rs"]
mod documents;

use std::{collections::HashMap, fs, path::Path};

use self::documents::{has, rows};

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
