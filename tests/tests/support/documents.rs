//! Documents that name tests.

/// Whether a file has a test of this name: a function, or an entry of a macro that makes one of it.
/// A function that a table runs against each server is in that table as well.
pub(crate) fn has(source: &str, name: &str) -> bool {
    let tests = source.contains("#[test]") || source.contains("tokio::test");
    let function = source.contains(&format!("fn {name}("));
    let entry = source.contains(&format!("\n    {name}: "));
    let listed = source.contains(&format!("\n    {name},"));
    let by_server = source.contains(&format!("fn {name}(way: Way)"));
    tests && entry || (if by_server { listed } else { tests }) && function
}

/// The rows of the table under a heading, without the one that names the columns.
pub(crate) fn rows<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, rest) = text.split_once(&format!("## {heading}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.skip(1).collect()
}
