//! A line for each event.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::Instant;

/// The log of a soak: when, where, what.
#[derive(Debug)]
pub(super) struct Journal {
    start: Instant,
    file: Mutex<File>,
}

impl Journal {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self {
            start: Instant::now(),
            file: Mutex::new(file),
        })
    }

    /// Since the start.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A log that cannot be written is no reason to end.
    pub(super) fn line(&self, server: &str, text: &str) {
        let at = self.now().as_secs_f64();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(file, "{at:10.3} {server:<14} {text}");
    }
}
