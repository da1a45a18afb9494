//! What Handover asks of a service: the lines that a framework's own smallest server needs more.
//!
//! Both programs are examples that are built, and run by the tests of their examples; the difference
//! is what the book shows.

use std::{fs, path::Path};

/// The listing of an example.
fn listing(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(file);
    let code = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let (_, code) = code.split_once("// ANCHOR: all\n").unwrap();
    let (code, _) = code.split_once("// ANCHOR_END: all").unwrap();
    code.lines().map(str::to_owned).collect()
}

/// The lines of both, as `diff` shows them: the longest sequence that they have in common, and what
/// comes in and goes between.
fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let mut common = vec![vec![0_usize; after.len() + 1]; before.len() + 1];
    for (i, one) in before.iter().enumerate().rev() {
        for (j, other) in after.iter().enumerate().rev() {
            common[i][j] = match one == other {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < before.len() || j < after.len() {
        let (mark, line) = match (before.get(i), after.get(j)) {
            (Some(one), Some(other)) if one == other => (' ', one),
            (Some(one), _) if j == after.len() || common[i + 1][j] >= common[i][j + 1] => {
                ('-', one)
            }
            (_, Some(other)) => ('+', other),
            (_, None) => unreachable!("what is left of the first goes"),
        };
        i += usize::from(mark != '+');
        j += usize::from(mark != '-');
        lines.push(format!("{mark}{line}").trim_end().to_owned());
    }
    lines
}

/// The lines of a manifest's dependencies that name a crate of Handover's.
fn dependencies(example: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let manifest = fs::read_to_string(path.join(example).join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("[dependencies]\n").unwrap();
    let dependencies = rest.split("\n[").next().unwrap();
    let ours = dependencies
        .lines()
        .filter(|line| line.starts_with("handover"));
    ours.count()
}

fn adds_at_most(example: &str, before: &str, after: &str, page: &str, bound: usize) {
    let sources = [before, after].map(|file| listing(&format!("{example}/src/{file}")));
    let [before, after] = sources;
    let shown = difference(&before, &after);
    let code = shown.iter().filter(|line| line.starts_with('+')).count();
    let manifest = dependencies(example);
    assert!(code > 0 && manifest > 0, "{example}: the two are the same");
    let shown = shown.join("\n");
    println!("{example}: {code} lines of code, {manifest} of the manifest\n{shown}");
    assert!(
        code + manifest <= bound,
        "{example}: {code} lines of code and {manifest} of the manifest, and {bound} are promised"
    );
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src");
    let text = fs::read_to_string(book.join(page)).unwrap();
    let fence = format!("```diff\n{shown}\n```\n");
    assert!(text.contains(&fence), "{page} does not show this:\n{fence}");
}

#[test]
fn axum_takes_five_at_most() {
    adds_at_most("axum-hello", "bin/axum-plain.rs", "main.rs", "axum.md", 5);
}

#[test]
fn warp_takes_five_at_most() {
    adds_at_most("warp-hello", "bin/warp-plain.rs", "main.rs", "warp.md", 5);
}

#[test]
fn actix_web_takes_eight_at_most() {
    adds_at_most(
        "actix-hello",
        "bin/actix-plain.rs",
        "main.rs",
        "actix-web.md",
        8,
    );
}

#[test]
fn tonic_takes_eight_at_most() {
    adds_at_most(
        "tonic-hello",
        "bin/tonic-plain.rs",
        "bin/tonic-first.rs",
        "grpc.md",
        8,
    );
}

#[test]
fn a_difference_is_as_diff_shows_it() {
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let shown = difference(&lines("a\nb\nc\nd"), &lines("a\nx\nc\ny\nd\nz"));
    assert_eq!(shown, [" a", "-b", "+x", " c", "+y", " d", "+z"]);
}
