//! Where a process can be made to fail, and what must be left then.

use std::fmt;

/// Which of the two fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Predecessor,
    Successor,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Exit,
    Panic,
    Hang,
    Kill,
    StopAndGoOn,
    StopAndKill,
}

impl Action {
    /// What the point is told to do. A panic ends a process where it is one of `main`, which the
    /// reference servers have on SIGUSR1; so the points that are not in `main` only wait for it.
    pub(crate) fn fault(self, point: &Point) -> &'static str {
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
pub(crate) struct Point {
    pub(crate) role: Role,
    pub(crate) step: u8,
    pub(crate) name: &'static str,
    pub(crate) is_in_main: bool,
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
pub(crate) const POINTS: [Point; 28] = [
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
pub(crate) enum Left {
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
pub(crate) enum Lost {
    Nothing,
    /// What was in the process that ended: of each client one request.
    Inside,
    /// And nobody listened for a moment.
    Crash,
}

/// What must be after a fault.
pub(crate) fn outcome(point: &Point, action: Action) -> (Left, Lost) {
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
