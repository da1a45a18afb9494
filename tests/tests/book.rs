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

/// What is in fences, and what is not: every other piece is inside of one, and begins with its
/// language.
fn pieces(page: &str) -> (Vec<&str>, Vec<&str>) {
    let pieces = page.split("\n```").enumerate();
    let (fenced, plain): (Vec<_>, Vec<_>) = pieces.partition(|(number, _)| number % 2 == 1);
    let text = |(_, piece)| piece;
    (
        fenced.into_iter().map(text).collect(),
        plain.into_iter().map(text).collect(),
    )
}

/// The listings in Rust, of units and of manifests, and all that are included; each as one text.
fn listings(page: &str) -> Vec<String> {
    let (fenced, _) = pieces(page);
    let listing = |piece: &str| {
        let (language, code) = piece.split_once('\n')?;
        let ours = ["rust", "ini", "yaml"].map(|ours| language.starts_with(ours));
        (ours.contains(&true) || code.starts_with("{{#")).then(|| code.trim().to_owned())
    };
    fenced.into_iter().filter_map(listing).collect()
}

/// The places of a page, as mdBook calls them.
fn places(page: &str) -> Vec<String> {
    let (_, plain) = pieces(page);
    let headings = plain.into_iter().flat_map(str::lines);
    headings
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter_map(|c| match c {
                c if c.is_whitespace() => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            });
            kept.collect()
        })
        .collect()
}

/// Where a page leads to, beside other sites.
fn links(page: &str) -> Vec<&str> {
    let (_, plain) = pieces(page);
    let targets = plain
        .into_iter()
        .flat_map(|piece| piece.split("](").skip(1));
    targets
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .filter(|target| !target.contains("://"))
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

/// `mdbook` says nothing of a link that leads nowhere, and nobody builds the front page.
#[test]
fn every_link_leads_somewhere() {
    let root = source().join("../..");
    let front = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| {
        let path = root.join(name);
        (path.clone(), fs::read_to_string(path).unwrap())
    });
    let mut seen = 0;
    for (path, page) in pages().into_iter().chain(front) {
        for target in links(&page) {
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let to = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(to.exists(), "{}: {target} is not there", path.display());
            if !place.is_empty() {
                let there = places(&fs::read_to_string(&to).unwrap());
                assert!(
                    there.iter().any(|one| one == place),
                    "{}: {target} has no such place, but {there:?}",
                    path.display()
                );
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} links: the pages are not read");
}

/// The names of a header's fields, and of those of the objects within. What is `held` is a status, and
/// is not the protocol's.
fn fields(header: &serde_json::Value, names: &mut Vec<String>) {
    match header {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                names.push(name.clone());
                if name != "held" {
                    fields(value, names);
                }
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| fields(value, names)),
        _ => {}
    }
}

#[test]
fn the_protocol_names_all_that_is_in_a_golden_frame() {
    let page = fs::read_to_string(source().join("protocol.md")).unwrap();
    let golden = source().join("../../core/tests/golden/v1");
    let mut seen = 0;
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        let frame = fs::read(&path).unwrap();
        let (length, rest) = frame.split_first_chunk().unwrap();
        let header = &rest[..u32::from_le_bytes(*length) as usize];
        let header: serde_json::Value = serde_json::from_slice(header).unwrap();
        let mut names = vec![header["type"].as_str().unwrap().to_owned()];
        fields(&header, &mut names);
        for name in names {
            let is_named = page.contains(&format!("`{name}`"));
            assert!(is_named, "{}: the page has no `{name}`", path.display());
        }
        seen += 1;
    }
    assert!(seen > 20, "{seen} golden frames");
    // The one that the page shows byte for byte.
    let ready = fs::read(source().join("../../core/tests/golden/v1/ready.frame")).unwrap();
    let bytes: Vec<_> = ready.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = format!("{}  {}\n", bytes[..4].join(" "), bytes[4..].join(" "));
    assert!(page.contains(&shown), "{shown}");
}

/// The chapter of the design says where what is held: those files are there, and have invariants.
#[test]
fn every_invariant_is_of_a_module_that_has_some() {
    let page = fs::read_to_string(source().join("design.md")).unwrap();
    let (_, table) = page.split_once("## Invariants").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let modules: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_suffix("` |")?.rsplit('`').next())
        .collect();
    assert!(modules.len() > 8, "{modules:?}");
    for module in modules {
        let code = fs::read_to_string(source().join("../..").join(module))
            .unwrap_or_else(|err| panic!("{module}: {err}"));
        assert!(code.contains("nvariants"), "{module} has no invariants");
    }
}

/// What a builder, a policy or a layer can be told: a public method that takes `self` and gives it back.
fn settings(source: &str) -> Vec<&str> {
    let methods = source.split("\n    pub fn ").skip(1);
    methods
        .filter_map(|rest| {
            let (signature, _) = rest.split_once(" {\n")?;
            let (name, arguments) = signature.split_once('(')?;
            let consumes = ["self,", "mut self,", "self)", "mut self)"];
            let arguments = arguments.trim_start();
            let takes = consumes.iter().any(|own| arguments.starts_with(own));
            let gives = signature.contains("-> Self");
            (takes && gives).then(|| name.split_once('<').map_or(name, |(name, _)| name))
        })
        .collect()
}

#[test]
fn every_setting_is_in_the_chapter_of_options() {
    // Each with what somebody may set.
    let files = [
        "core/src/accept/proxy/mod.rs",
        "core/src/control/protocol.rs",
        "core/src/generation/builder.rs",
        "core/src/graceful.rs",
        "core/src/health.rs",
        "core/src/layer/make.rs",
        "core/src/lived/closing.rs",
        "core/src/lived/events.rs",
        "core/src/policy.rs",
        "core/src/signals.rs",
        "core/src/sockets/options.rs",
        "core/src/upgrade/check.rs",
        "adapters/actix-web/src/foreign/server.rs",
        "adapters/actix-web/src/server.rs",
        "adapters/admin/src/serve.rs",
        "adapters/hyper/src/serve.rs",
        "adapters/tls/src/builder.rs",
        "adapters/tonic/src/client/layer.rs",
        "adapters/tonic/src/layer.rs",
        "adapters/tonic/src/stream.rs",
    ];
    let options = fs::read_to_string(source().join("options.md")).unwrap();
    let words: Vec<&str> = options
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    for file in files {
        let code = fs::read_to_string(source().join("../..").join(file)).unwrap();
        let settings = settings(&code);
        assert!(!settings.is_empty(), "{file} has nothing to be set");
        for setting in settings {
            assert!(words.contains(&setting), "{file}: {setting} is not there");
        }
    }
}
