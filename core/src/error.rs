//! Why a generation could not start, listen, or hand over.

use std::{error::Error as StdError, fmt, io, sync::Arc};

/// Why a generation could not start, listen, become ready or hand over.
///
/// A failed upgrade changes nothing: this process still owns its sockets and still serves. Match on
/// the `is_*` methods; the text of `Display` and the type behind [`source`](StdError::source) may
/// change in any release.
///
/// # Examples
///
/// Who asks for an upgrade may want to ask again:
///
/// ```
/// # async fn example(generation: handover::Generation) {
/// match generation.upgrade().await {
///     Ok(successor) => println!("{successor} serves"),
///     Err(error) if error.is_in_progress() || error.is_not_ready() => println!("later: {error}"),
///     Err(error) if error.is_draining() => println!("this service ends"),
///     Err(error) if error.is_timeout() => println!("not ready in time: {error}"),
///     Err(error) if error.is_spawn() => println!("no such program: {error}"),
///     Err(error) if error.is_failed() => println!("the new release is broken: {error}"),
///     Err(error) if error.is_state() => println!("there is no state for it: {error}"),
///     Err(error) => println!("nothing has changed: {error}"),
/// }
/// # }
/// ```
///
/// What a program that could not start says to who has started it:
///
/// ```
/// use std::process::ExitCode;
///
/// fn exit_code(error: &handover::Error) -> ExitCode {
///     if error.is_check() {
///         return ExitCode::SUCCESS; // it has shown that it could start
///     }
///     eprintln!("{error}");
///     let is_configuration =
///         error.is_address() || error.is_pid_file() || error.is_control() || error.is_file();
///     if is_configuration {
///         ExitCode::from(78) // EX_CONFIG of sysexits.h
///     } else if error.is_listen() || error.is_unsupported() || error.is_inherited() {
///         ExitCode::from(69) // EX_UNAVAILABLE
///     } else {
///         ExitCode::FAILURE
///     }
/// }
///
/// let error = handover::Error::from(std::io::Error::other("disk full"));
/// assert_eq!(exit_code(&error), ExitCode::from(69));
/// assert!(!error.is_stale());
/// ```
///
/// A `main` that returns [`io::Result`] may use `?`:
///
/// ```
/// use std::io;
///
/// let error = handover::Error::from(io::Error::from(io::ErrorKind::AddrInUse));
/// let error = io::Error::from(error);
/// assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
/// assert_eq!(error.to_string(), "cannot serve");
/// ```
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Arc<io::Error>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), allow(dead_code))]
pub(crate) enum Kind {
    /// There is no tokio runtime with IO and time.
    NoRuntime,
    /// An address cannot be read, resolved, or asked for twice.
    Address,
    /// A socket cannot be opened.
    Listen,
    /// A file or a connection cannot be kept, or is not what it should be.
    File,
    /// The environment names a descriptor that is not what it says.
    Inherited,
    /// The pid file cannot be written, or another process holds it.
    PidFile,
    /// Another upgrade of this process has not finished yet.
    InProgress,
    /// This process is not ready itself.
    NotReady,
    /// This process is draining, so that there is nothing to hand over.
    Draining,
    /// The successor was not ready in time, and was killed.
    TimedOut,
    /// The successor could not be started.
    Spawn,
    /// The successor ended, or said that it cannot.
    Failed,
    /// The channel between two generations failed.
    Channel,
    /// A signal handler cannot be installed.
    Signal,
    /// What the successor is to know cannot be made.
    State,
    /// The control socket cannot be opened.
    Control,
    /// This process is a check: it is not to serve.
    Check,
    /// An upgrade was asked for of another generation than the one that serves.
    Stale,
    /// This system cannot do it.
    Unsupported,
}

/// What to do about `EMFILE`.
pub(crate) const OPEN_FILES: &str = "raise the limit on open files (ulimit -n, LimitNOFILE=)";
/// What to do about `EAGAIN` of a thread or a process.
#[cfg(unix)]
const PROCESSES: &str = "raise the limit on processes and threads (ulimit -u, TasksMax=)";

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// With what to do, if a limit was reached.
    pub(crate) fn io(kind: Kind, message: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let (mut message, source) = (message.into(), source.into());
        if let Some(advice) = advice(kind, &source) {
            message = format!("{message}: {advice}");
        }
        Self {
            kind,
            message,
            source: Some(Arc::new(source)),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns true if the control socket could not be opened.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.kind == Kind::Control
    }

    /// Returns true if this process was only to show that it could start, which it has: it is a
    /// [check](crate::Generation::is_check), and is to end.
    #[must_use]
    pub fn is_check(&self) -> bool {
        self.kind == Kind::Check
    }

    /// Returns true if an upgrade was asked for of another generation than the one that serves.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.kind == Kind::Stale
    }

    /// Returns true if another upgrade was under way; this one changed nothing.
    #[must_use]
    pub fn is_in_progress(&self) -> bool {
        self.kind == Kind::InProgress
    }

    /// Returns true if the successor was not ready in time; it has been killed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::TimedOut
    }

    /// Returns true if the successor could not be started: its program is missing or cannot be
    /// executed.
    #[must_use]
    pub fn is_spawn(&self) -> bool {
        self.kind == Kind::Spawn
    }

    /// Returns true if the successor ended, or gave up, before it had taken over.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.kind == Kind::Failed
    }

    /// Returns true if an upgrade was asked for before [`ready`](crate::Generation::ready).
    #[must_use]
    pub fn is_not_ready(&self) -> bool {
        self.kind == Kind::NotReady
    }

    /// Returns true if an upgrade was asked for, or was under way, in a process that drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.kind == Kind::Draining
    }

    /// Returns true if an address is wrong: it cannot be read or resolved, or its name is taken.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.kind == Kind::Address
    }

    /// Returns true if a socket could not be opened; the [`source`](StdError::source) says why.
    #[must_use]
    pub fn is_listen(&self) -> bool {
        self.kind == Kind::Listen
    }

    /// Returns true if a file or a connection could not be [kept](crate::Generation::keep_file) or
    /// taken.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// Returns true if what the environment says was inherited is not there, or is something else.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.kind == Kind::Inherited
    }

    /// Returns true if the pid file cannot be written, or belongs to another living process.
    #[must_use]
    pub fn is_pid_file(&self) -> bool {
        self.kind == Kind::PidFile
    }

    /// Returns true if what the successor is to know could not be made.
    #[must_use]
    pub fn is_state(&self) -> bool {
        self.kind == Kind::State
    }

    /// Returns true if this system cannot do what was asked for: pass sockets to a successor.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.kind == Kind::Unsupported
    }

    /// The message with its cause, for a log line.
    #[cfg(unix)]
    pub(crate) fn chain(&self) -> String {
        match &self.source {
            Some(source) => format!("{}: {source}", self.message),
            None => self.message.clone(),
        }
    }
}

#[cfg(unix)]
fn advice(kind: Kind, source: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;

    match Errno::from_io_error(source)? {
        Errno::MFILE => Some(OPEN_FILES),
        // Of a file or a socket it means something else.
        Errno::AGAIN if kind == Kind::Spawn => Some(PROCESSES),
        _ => None,
    }
}

#[cfg(not(unix))]
fn advice(_: Kind, _: &io::Error) -> Option<&'static str> {
    None
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Error {
    /// An error of the IO of a server at work.
    fn from(source: io::Error) -> Self {
        Self::io(Kind::Listen, "cannot serve", source)
    }
}

impl From<Error> for io::Error {
    /// Of the kind of the system's error, or [`Other`](io::ErrorKind::Other) where there is none.
    fn from(error: Error) -> Self {
        let kind = error.source.as_ref().map(|source| source.kind());
        Self::new(kind.unwrap_or(io::ErrorKind::Other), error)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Is = fn(&Error) -> bool;

    /// Each kind, and what says so. There is nothing to ask where nothing can be done.
    const KINDS: [(Kind, Option<Is>); 19] = [
        (Kind::NoRuntime, None),
        (Kind::Address, Some(Error::is_address)),
        (Kind::Listen, Some(Error::is_listen)),
        (Kind::File, Some(Error::is_file)),
        (Kind::Inherited, Some(Error::is_inherited)),
        (Kind::PidFile, Some(Error::is_pid_file)),
        (Kind::InProgress, Some(Error::is_in_progress)),
        (Kind::NotReady, Some(Error::is_not_ready)),
        (Kind::Draining, Some(Error::is_draining)),
        (Kind::TimedOut, Some(Error::is_timeout)),
        (Kind::Spawn, Some(Error::is_spawn)),
        (Kind::Failed, Some(Error::is_failed)),
        (Kind::Channel, None),
        (Kind::Signal, None),
        (Kind::State, Some(Error::is_state)),
        (Kind::Control, Some(Error::is_control)),
        (Kind::Check, Some(Error::is_check)),
        (Kind::Stale, Some(Error::is_stale)),
        (Kind::Unsupported, Some(Error::is_unsupported)),
    ];

    /// Who matches on the questions, in whatever order, comes to one arm.
    #[test]
    fn each_error_says_yes_to_one_question_at_most() {
        for (kind, own) in KINDS {
            let error = Error::new(kind, "no");
            for (other, asks) in KINDS {
                let Some(asks) = asks else { continue };
                assert_eq!(asks(&error), kind == other, "{kind:?} by {other:?}'s");
            }
            assert_eq!(own.is_some_and(|own| own(&error)), own.is_some());
            assert_eq!(error.kind(), kind);
        }
    }

    #[test]
    fn the_cause_is_the_source_and_in_the_log_but_not_said_twice() {
        let error = Error::io(Kind::PidFile, "cannot write", io::Error::other("disk full"));
        assert_eq!(error.to_string(), "cannot write");
        let source = error.source().map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("disk full"));
        #[cfg(unix)]
        assert_eq!(error.chain(), "cannot write: disk full");
        // A clone goes to each who waits.
        assert_eq!(error.clone().source().unwrap().to_string(), "disk full");

        let error = Error::new(Kind::Address, "no port");
        assert!(error.source().is_none());
        #[cfg(unix)]
        assert_eq!(error.chain(), "no port");
    }

    #[cfg(unix)]
    #[test]
    fn a_limit_that_is_reached_comes_with_what_to_do() {
        use rustix::io::Errno;

        let files = Error::io(Kind::Listen, "cannot listen", Errno::MFILE);
        assert!(files.to_string().contains("ulimit -n"), "{files}");
        let processes = Error::io(Kind::Spawn, "cannot start", Errno::AGAIN);
        assert!(processes.to_string().contains("ulimit -u"), "{processes}");
        // Of a socket it is no limit.
        let again = Error::io(Kind::Listen, "cannot listen", Errno::AGAIN);
        assert_eq!(again.to_string(), "cannot listen");
    }
}
