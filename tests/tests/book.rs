//! The book's listings are those of examples that are built and tested, and its pages exist.
//!
//! `mdbook` says little of an anchor that is gone: the listing is just empty.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src")
}

/// All pages, with what is written in them.
fn pages() -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(source()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let pages: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.clone(), fs::read_to_string(&path).unwrap()))
        .collect();
    assert!(pages.len() > 2, "{} has no pages", source().display());
    pages
}

/// The listings in Rust and of units, each as one text.
fn listings(page: &str) -> Vec<String> {
    let fences = page.split("\n```").enumerate();
    // Every other piece is inside of a fence, and begins with its language.
    fences
        .filter(|(number, piece)| {
            number % 2 == 1 && (piece.starts_with("rust") || piece.starts_with("ini"))
        })
        .filter_map(|(_, piece)| piece.split_once('\n'))
        .map(|(_, code)| code.trim().to_owned())
        .collect()
}

#[test]
fn every_listing_is_an_anchor_of_an_example() {
    let mut seen = 0;
    for (path, page) in pages() {
        for listing in listings(&page) {
            let name = path.display();
            let include = listing
                .strip_prefix("{{#rustdoc_include ../../examples/")
                .or_else(|| listing.strip_prefix("{{#include ../../examples/"))
                .and_then(|rest| rest.strip_suffix("}}"))
                .unwrap_or_else(|| panic!("{name}: not from an example: {listing}"));
            let (file, anchor) = include
                .split_once(':')
                .unwrap_or_else(|| panic!("{name}: {include} names no anchor"));
            let file = source().join("../../examples").join(file);
            let code = fs::read_to_string(&file)
                .unwrap_or_else(|error| panic!("{name}: {}: {error}", file.display()));
            let lines: Vec<&str> = code.lines().map(str::trim).collect();
            let at = |mark: &str| {
                let marks = ["//", "#"].map(|comment| format!("{comment} {mark}: {anchor}"));
                let found = lines
                    .iter()
                    .position(|one| marks.iter().any(|mark| mark == one));
                found.unwrap_or_else(|| panic!("{name}: no `{}` in {}", marks[0], file.display()))
            };
            assert!(at("ANCHOR") + 1 < at("ANCHOR_END"), "{name}: {include}");
            seen += 1;
        }
    }
    assert!(seen > 0, "the book has no listings");
}

#[test]
fn the_summary_has_every_page_and_no_other() {
    let pages = pages();
    let (_, summary) = pages
        .iter()
        .find(|(path, _)| path.ends_with("SUMMARY.md"))
        .unwrap();
    let mut listed: Vec<&str> = summary
        .split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect();
    listed.sort_unstable();
    let mut there: Vec<_> = pages
        .iter()
        .filter_map(|(path, _)| path.file_name()?.to_str())
        .filter(|name| *name != "SUMMARY.md")
        .collect();
    there.sort_unstable();
    assert_eq!(listed, there);
}
