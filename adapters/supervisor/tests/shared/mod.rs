//! What both tests of this crate need.

use std::fs;

/// All processes that were started with this in their environment, as `NAME=value`.
pub(crate) fn marked(mark: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ
            .split(|byte| *byte == 0)
            .any(|one| one == mark.as_bytes())
        {
            found.push(pid);
        }
    }
    found
}
