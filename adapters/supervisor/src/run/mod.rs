//! `handover run`: holds sockets, and the processes that serve from them.
//!
//! ```text
//!  signals ─┐                                        ┌─▶ spawn, by the shim
//!  notify ──┤                                        ├─▶ signal, kill
//!  ack ─────┼─▶ events ─▶ plan (pure) ─▶ actions ────┼─▶ status file, our own manager
//!  control ─┤                                        ├─▶ who follows at the control socket
//!  time ────┘                                        └─▶ what we say
//! ```
//!
//! [`plan`] decides, [`supervisor`] does. Everything happens in one task, so that what is decided is
//! done before the next thing happens; tasks beside it only hear and write.
//!
//! Invariants:
//! 1. The sockets are opened once and never accepted from here: whatever becomes of the processes,
//!    the kernel queues connections.
//! 2. Processes are reaped in one place, so a number that is in use here is no other's.
//! 3. Signals are blocked and read: none is lost, also not over an `exec` of ourselves.
//! 4. No descriptor of ours reaches a program but those that are meant for it.

mod ack;
pub(crate) mod args;
mod child;
pub(crate) mod config;
pub(crate) mod dialects;
mod environment;
mod kin;
mod notify;
mod output;
pub(crate) mod plan;
pub(crate) mod reexec;
mod said;
pub(crate) mod shim;
mod signals;
mod status_file;
mod supervisor;
mod user;

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use tokio::runtime::Builder;

use self::{config::Config, supervisor::Supervisor};

/// It could not be begun.
const FAILED: u8 = 1;
/// There is no such program, as shells say it.
const NO_PROGRAM: u8 = 127;

/// Runs until all is over.
pub(crate) fn run(config: Config) -> ExitCode {
    let name = config.name;
    match try_run(config) {
        Ok(code) => code,
        Err(Failure(why, code)) => {
            eprintln!("{name}: {}", crate::show::clean(&why));
            ExitCode::from(code)
        }
    }
}

/// Why it could not be begun, and the exit status that says so.
pub(crate) struct Failure(String, u8);

impl<E: std::error::Error> From<E> for Failure {
    fn from(err: E) -> Self {
        let source = err.source().map(|source| format!(": {source}"));
        Self(format!("{err}{}", source.unwrap_or_default()), FAILED)
    }
}

fn try_run(config: Config) -> Result<ExitCode, Failure> {
    // Before anything that starts a thread.
    signals::block()?;
    let kept = reexec::take()?;
    if kept.is_none() && find(Path::new(&config.program)).is_none() {
        let why = format!("there is no program {}", config.program.display());
        return Err(Failure(why, NO_PROGRAM));
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let supervisor = match kept {
            Some(kept) => Supervisor::resume(config, kept)?,
            None => Supervisor::start(config).await?,
        };
        supervisor.run().await
    })
}

/// Where a program is, by the rules of a shell.
pub(crate) fn find(name: &Path) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.components().count() > 1 {
        return Some(name.to_owned()).filter(is_program);
    }
    let dirs = std::env::var_os("PATH")?;
    let mut all = std::env::split_paths(&dirs).map(|dir| dir.join(name));
    all.find(is_program)
}

/// The time on the clock that goes on over an `exec`.
fn now() -> plan::Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    plan::Time::try_from(now).unwrap_or_default()
}

fn other(why: impl Into<String>) -> io::Error {
    io::Error::other(why.into())
}
