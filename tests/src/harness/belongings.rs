//! What a process has.

use std::{collections::BTreeMap, fs, io};

use super::proc;

/// What a process has that a later generation is not to have more of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Belongings {
    /// Descriptors, by what they are.
    pub descriptors: BTreeMap<String, usize>,
    /// Without the values that name a process or a descriptor.
    pub environment: Vec<(String, String)>,
    /// Children that have ended and were not waited for.
    pub zombies: usize,
    /// Its threads.
    pub threads: usize,
}

impl Belongings {
    /// Those of `pid`.
    ///
    /// # Errors
    ///
    /// If there is no such process, or it belongs to somebody else.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut descriptors = BTreeMap::new();
        for (_, target) in proc::descriptors(pid)? {
            let target = target.to_string_lossy();
            // `socket:[123]` and the like; each has a number of its own.
            let kind = target.split(":[").next().unwrap_or_default();
            *descriptors.entry(kind.to_owned()).or_default() += 1;
        }
        let mut environment = proc::environment(pid)?;
        for (name, value) in &mut environment {
            if name.starts_with("HANDOVER_") {
                value.clear();
            }
        }
        environment.sort_unstable();
        Ok(Self {
            descriptors,
            environment,
            zombies: proc::zombies(pid)?.len(),
            threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
        })
    }

    /// How many descriptors there are.
    #[must_use]
    pub fn open(&self) -> usize {
        self.descriptors.values().sum()
    }

    /// How many of them are no sockets: a server has as many of those as it has clients.
    #[must_use]
    pub fn other_than_sockets(&self) -> usize {
        self.open() - self.descriptors.get("socket").copied().unwrap_or(0)
    }
}
