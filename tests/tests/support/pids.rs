//! A control group that bounds how many threads and processes a server may have.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A group of the `pids` controller, beside the one of this process; removed with it.
#[derive(Debug)]
pub(crate) struct Pids {
    directory: PathBuf,
}

impl Pids {
    /// Makes one, if this machine lets us: that wants root, and a hierarchy that may be written to.
    pub(crate) fn make() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("handover-{}-{number}", process::id());
        let directory = own()?.join(name);
        fs::create_dir(&directory)?;
        let made = Self { directory };
        // A hierarchy without the controller makes directories as well.
        fs::metadata(made.directory.join("pids.max"))?;
        Ok(made)
    }

    /// Moves a process there, with all its threads; what it starts from now on is there too.
    pub(crate) fn take(&self, pid: u32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    /// No thread and no process can be started there any more.
    pub(crate) fn close(&self) {
        self.write("pids.max", "1");
    }

    /// They can again.
    pub(crate) fn open(&self) {
        self.write("pids.max", "max");
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.directory.join(file), text).unwrap();
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        // Not while somebody is in it, as after a test that failed.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// The directory of the group that this process is in.
fn own() -> io::Result<PathBuf> {
    let none = || io::Error::new(io::ErrorKind::Unsupported, "no pids controller is mounted");
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    // A hierarchy of its own, or the one of all controllers, whose line begins with `0::`.
    let has = |options: &str| options.split(',').any(|option| option == "pids");
    let own = |prefix: &str| groups.lines().find_map(|line| line.split_once(prefix));
    let found = mounts.lines().find_map(|mount| {
        let mut words = mount.split(' ').skip(1);
        let (at, kind, options) = (words.next()?, words.next()?, words.next()?);
        let (_, group) = match kind {
            "cgroup" if has(options) => own(":pids:")?,
            "cgroup2" if own(":pids:").is_none() => own("0::")?,
            _ => return None,
        };
        Some(Path::new(at).join(group.trim_start_matches('/')))
    });
    found.ok_or_else(none)
}
