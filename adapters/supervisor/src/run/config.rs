//! What is to be run, and how: made of a command line, this program's own or another's.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use handover::SocketOptions;
use nix::sys::signal::Signal;

use super::{dialects::Dialects, plan};

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The program, looked up at each start.
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    /// `[NAME=]ADDRESS` each.
    pub(crate) listen: Vec<Wish>,
    /// Whether sockets that this process inherited are passed on.
    pub(crate) inherit: bool,
    pub(crate) options: SocketOptions,
    pub(crate) plan: plan::Settings,
    /// A process that says anything at all by `sd_notify` has to say when it is ready, too.
    pub(crate) listens_for_ready: bool,
    pub(crate) dialects: Dialects,
    /// What a replaced process is told by.
    pub(crate) replace_signal: Signal,
    /// What all are told by at the end.
    pub(crate) stop_signal: Signal,
    /// What each signal means to us; any other that is caught is passed on.
    pub(crate) meanings: Vec<(Signal, Meaning)>,
    /// All processes are replaced so often though nobody asks.
    pub(crate) every: Option<Duration>,
    pub(crate) user: Option<String>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) status_file: Option<PathBuf>,
    pub(crate) env_dir: Option<PathBuf>,
    pub(crate) control: Option<PathBuf>,
    pub(crate) output: Output,
    /// What we call ourselves in what we say.
    pub(crate) name: &'static str,
}

/// A socket that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// As [`ServiceSocket::open`](handover::supervise::ServiceSocket::open) reads it.
    pub(crate) address: String,
    /// As the user wrote it, where a dialect repeats that.
    pub(crate) said: Option<String>,
    /// The descriptor that the program expects it at, if not the next one.
    pub(crate) at: Option<i32>,
}

impl Wish {
    pub(crate) fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            said: None,
            at: None,
        }
    }
}

/// What a signal means to a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Replace all processes.
    Replace,
    /// The end; the processes are told by the stop signal, or by this very one.
    Stop { as_it_is: bool },
    /// Replace our own program.
    Reexec,
}

/// What becomes of what the processes write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// It goes where ours does, by itself.
    Inherit,
    /// Line by line, with the process id before it.
    Prefix,
    /// As `Prefix`, both streams to our standard error.
    PrefixToStderr,
    /// Line by line to the system's log.
    Syslog,
}
