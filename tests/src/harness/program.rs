//! What to start.

use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;

use super::server::Server;

/// A server program with its arguments and environment.
///
/// # Examples
///
/// ```no_run
/// use handover_tests::harness::{Program, Signal};
/// use std::time::Duration;
///
/// # async fn example() -> anyhow::Result<()> {
/// let server = Program::new("target/debug/ref-axum").args(["--listen", "127.0.0.1:0"]).start().await?;
/// let first = server.newest();
/// first.process.signal(Signal::HUP)?;
/// let second = server.ready(1, Duration::from_secs(10)).await?;
/// assert_ne!(first.pid(), second.pid());
/// assert!(first.process.exit(Duration::from_secs(10)).await?.is_success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Program {
    command: Command,
    ready_within: Duration,
}

impl Program {
    /// The program at `path`, mostly `env!("CARGO_BIN_EXE_…")`.
    #[must_use]
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(path);
        command.stdin(Stdio::null());
        // A backtrace in an error would push the error itself out of what is shown of stderr.
        command.env("RUST_LIB_BACKTRACE", "0");
        // Nor is what a line says to be cut up by colours.
        command.env("NO_COLOR", "1");
        Self {
            command,
            ready_within: Duration::from_secs(20),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Starts it in another directory.
    #[must_use]
    pub fn directory(mut self, path: impl AsRef<Path>) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Gives it a descriptor, such as a listening socket, as its stdin.
    #[must_use]
    pub fn stdin(mut self, fd: OwnedFd) -> Self {
        self.command.stdin(fd);
        self
    }

    /// How long it may take until it is ready; 20 s by default.
    #[must_use]
    pub fn ready_within(mut self, within: Duration) -> Self {
        self.ready_within = within;
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends, or is not ready in time; with what it wrote to stderr.
    pub async fn start(self) -> anyhow::Result<Server> {
        let within = self.ready_within;
        let server = self.spawn()?;
        server.any_ready(within).await?;
        Ok(server)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn(mut self) -> anyhow::Result<Server> {
        let me = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(me))
            .map_err(io::Error::from)
            .context("become the one to whom orphaned generations come")?;
        let program = self.command.get_program().to_string_lossy().into_owned();
        let child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // One group for all generations, so that none can be missed at the end.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        Server::new(program, child)
    }
}
