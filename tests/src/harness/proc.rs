//! What `/proc` says about processes.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// A process, from `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// Its pid.
    pub pid: u32,
    /// Its name, cut to 15 bytes by the kernel.
    pub name: String,
    /// `R`, `S`, `Z` and so on.
    pub state: char,
    /// Its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
}

impl Stat {
    /// Whether it has ended and was not waited for.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }

    /// Reads that of `pid`.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(pid, &text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat: {text:?}"),
            )
        })
    }

    fn parse(pid: u32, text: &str) -> Option<Self> {
        // The name is in parentheses, and may hold any of them.
        let (start, rest) = text.rsplit_once(')')?;
        let (_, name) = start.split_once('(')?;
        let mut fields = rest.split_whitespace();
        Some(Self {
            pid,
            name: name.into(),
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    }
}

/// All processes. One that ends meanwhile may be missing.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn all() -> io::Result<Vec<Stat>> {
    let entries = fs::read_dir("/proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(|pid| Stat::of(pid).ok()).collect())
}

/// The children of `pid`, and theirs, and so on; zombies too.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn descendants(pid: u32) -> io::Result<Vec<Stat>> {
    let mut rest = all()?;
    let (mut found, mut parents) = (Vec::new(), vec![pid]);
    while let Some(parent) = parents.pop() {
        let (children, others) = rest.into_iter().partition(|stat| stat.parent == parent);
        rest = others;
        let children: Vec<Stat> = children;
        parents.extend(children.iter().map(|stat| stat.pid));
        found.extend(children);
    }
    Ok(found)
}

/// The children of `pid` that have ended and were not waited for.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn zombies(pid: u32) -> io::Result<Vec<Stat>> {
    Ok(all()?
        .into_iter()
        .filter(|stat| stat.parent == pid && stat.is_zombie())
        .collect())
}

/// The open descriptors of `pid` and what they are, by number.
///
/// # Errors
///
/// If there is no such process, or it belongs to somebody else.
pub fn descriptors(pid: u32) -> io::Result<Vec<(i32, PathBuf)>> {
    let directory = PathBuf::from(format!("/proc/{pid}/fd"));
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have been closed since.
        if let Ok(target) = fs::read_link(directory.join(&name)) {
            found.push((fd, target));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The environment that `pid` was started with.
///
/// # Errors
///
/// If there is no such process, or it belongs to somebody else.
pub fn environment(pid: u32) -> io::Result<Vec<(String, String)>> {
    let bytes = fs::read(format!("/proc/{pid}/environ"))?;
    let entries = bytes
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty());
    let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_string_lossy().into_owned();
    Ok(entries
        .map(|entry| {
            let equals = entry
                .iter()
                .position(|byte| *byte == b'=')
                .unwrap_or(entry.len());
            (
                text(&entry[..equals]),
                text(entry.get(equals + 1..).unwrap_or_default()),
            )
        })
        .collect())
}

/// The resident memory of `pid` in KiB.
///
/// # Errors
///
/// If there is no such process.
pub fn resident_kib(pid: u32) -> io::Result<u64> {
    kib(pid, "VmRSS:")
}

/// The resident memory of `pid` that is no file's, in KiB: its heap and its stacks. What is resident
/// of the program's file depends on what other processes of it have read.
///
/// # Errors
///
/// If there is no such process.
pub fn anonymous_kib(pid: u32) -> io::Result<u64> {
    kib(pid, "RssAnon:")
}

fn kib(pid: u32, field: &str) -> io::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(Path::new(&path))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no {field} in {path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_parentheses_and_spaces() {
        let stat = Stat::parse(7, "7 (a) (b c) Z 1 5 5 0 -1").unwrap();
        assert_eq!((stat.name.as_str(), stat.state), ("a) (b c", 'Z'));
        assert_eq!((stat.parent, stat.group), (1, 5));
    }

    #[test]
    fn this_process_is_described() {
        let pid = std::process::id();
        assert_eq!(Stat::of(pid).unwrap().pid, pid);
        assert!(all().unwrap().iter().any(|stat| stat.pid == pid));
        assert!(descriptors(pid).unwrap().len() > 2);
        assert!(resident_kib(pid).unwrap() > 100);
        let path = std::env::var("PATH").unwrap();
        assert!(environment(pid).unwrap().contains(&("PATH".into(), path)));
    }
}
