//! Where a process can be made to fail in an upgrade, and what must be left then.
//!
//! The points are in the library, in `core/src/fault.rs`, behind a feature that only these tests have.
//! A server whose environment names a directory in [`VARIABLE`] looks there.
#![allow(clippy::exhaustive_enums)] // who judges an outcome is to have thought of each

use std::{fmt, fs, io, path::Path, time::Duration};

use rustix::process::Signal;

use crate::harness::{Process, proc, seen};

/// Names the directory in which a process looks for its faults.
pub const VARIABLE: &str = "HANDOVER_FAULTS";
/// How often it is looked whether a process has come to a point.
const EVERY: Duration = Duration::from_millis(5);

/// Which of the two fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The older one.
    Predecessor,
    /// The newer one.
    Successor,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It exits.
    Exit,
    /// It panics.
    Panic,
    /// It goes no further.
    Hang,
    /// It is killed.
    Kill,
    /// It is stopped for a moment.
    StopAndGoOn,
    /// It is stopped, and killed then.
    StopAndKill,
}

impl Action {
    /// What the point is told to do. A panic ends a process where it is one of `main`, which the
    /// reference servers have on SIGUSR1; so the points that are not in `main` only wait for it.
    #[must_use]
    pub fn fault(self, point: &Point) -> &'static str {
        match self {
            Action::Exit => "exit",
            Action::Panic if point.is_in_main => "panic",
            Action::Panic | Action::Hang => "hang",
            Action::Kill => "kill",
            Action::StopAndGoOn | Action::StopAndKill => "stop",
        }
    }
}

/// A place in the library where a process can be made to fail.
#[derive(Debug)]
#[non_exhaustive]
pub struct Point {
    /// Whose it is.
    pub role: Role,
    /// In which step of the protocol.
    pub step: u8,
    /// Its name in the library.
    pub name: &'static str,
    /// Whether a panic there is one of `main`.
    pub is_in_main: bool,
}

const fn old(step: u8, name: &'static str) -> Point {
    Point {
        role: Role::Predecessor,
        step,
        name,
        is_in_main: false,
    }
}

const fn new(step: u8, name: &'static str) -> Point {
    Point {
        role: Role::Successor,
        step,
        name,
        // It receives what is sent in `start`, and reports its progress from there.
        is_in_main: step <= 3,
    }
}

/// All of them, in the order in which they come.
pub const POINTS: [Point; 28] = [
    old(1, "spawned"),
    old(2, "hello-sent"),
    old(2, "sockets-sent"),
    old(2, "state-sent"),
    old(2, "start-sent"),
    old(3, "starting-heard"),
    old(3, "progress-heard"),
    old(4, "ready-heard"),
    old(5, "commit-sent"),
    old(6, "serving-heard"),
    old(7, "draining"),
    old(7, "connections-sent"),
    old(7, "claim-heard"),
    old(8, "bye-due"),
    old(8, "bye-sent"),
    new(1, "started"),
    new(2, "hello-received"),
    new(2, "sockets-received"),
    new(2, "state-received"),
    new(3, "starting-sent"),
    new(3, "progress-sent"),
    new(4, "ready-sent"),
    new(5, "commit-received"),
    new(5, "pid-file-written"),
    new(6, "serving-sent"),
    new(7, "connections-received"),
    new(7, "claimed"),
    new(8, "bye-heard"),
];

/// Who serves in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// As if there had been no upgrade.
    Predecessor,
    /// As the heir, or as it should be.
    Successor,
    /// The successor, without what it should have been given: the predecessor died before it sent
    /// the sockets, and they with it. That is a crash of the service, and a start after it.
    Afresh,
    /// The successor died when it was alone.
    Nobody,
}

/// What may have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Not one request.
    Nothing,
    /// What was in the process that ended: of each client one request.
    Inside,
    /// And nobody listened for a moment.
    Crash,
}

/// What must be after a fault.
#[must_use]
pub fn outcome(point: &Point, action: Action) -> (Left, Lost) {
    use Left::{Afresh, Nobody, Predecessor, Successor};
    use Lost::{Crash, Inside, Nothing};
    match (point.role, point.name, action) {
        (_, _, Action::StopAndGoOn) => (Successor, Nothing),
        (Role::Predecessor, "spawned" | "hello-sent", _) => (Afresh, Crash),
        // It has nothing any more.
        (Role::Predecessor, "bye-due" | "bye-sent", _) => (Successor, Nothing),
        (Role::Predecessor, ..) => (Successor, Inside),
        // It serves, but that it does not know that it is alone, or has one connection less.
        (Role::Successor, "bye-heard", Action::Hang) => (Successor, Nothing),
        (Role::Successor, "claimed", Action::Hang) => (Successor, Inside),
        (Role::Successor, "bye-heard", _) => (Nobody, Crash),
        (Role::Successor, "connections-received" | "claimed", _) => (Predecessor, Inside),
        // It has nothing yet.
        (Role::Successor, ..) => (Predecessor, Nothing),
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at step {}, {}", self.role, self.step, self.name)
    }
}

/// Tells who comes to this point what to do there.
///
/// # Errors
///
/// If the file cannot be written.
pub fn plant(directory: &Path, point: &Point, action: Action) -> io::Result<()> {
    fs::write(directory.join(point.name), action.fault(point))
}

/// Waits until a process has come to the point.
///
/// # Errors
///
/// If none has after `within`.
pub async fn reached(directory: &Path, point: &str, within: Duration) -> anyhow::Result<Process> {
    let path = directory.join(format!("{point}.reached"));
    let what = format!("somebody to come to {point}");
    let pid = seen(&what, within, EVERY, || {
        fs::read_to_string(&path).ok()?.trim().parse().ok()
    });
    let pid = pid.await?;
    Ok(Process::open(pid)?)
}

/// Lets a process that was stopped there go on.
///
/// # Errors
///
/// If it has ended, or the file cannot be written.
pub fn go_on(directory: &Path, point: &str, stopped: &Process) -> anyhow::Result<()> {
    fs::write(directory.join(format!("{point}.go")), "")?;
    stopped.signal(Signal::CONT)
}

/// Waits until a process is stopped, or has ended.
///
/// # Errors
///
/// If it goes on after `within`.
pub async fn is_stopped(process: &Process, within: Duration) -> anyhow::Result<()> {
    let stopped = || match proc::Stat::of(process.pid()) {
        Ok(stat) => matches!(stat.state, 'T' | 'Z').then_some(()),
        Err(_) => Some(()),
    };
    seen("it to stop", within, EVERY, stopped).await
}
