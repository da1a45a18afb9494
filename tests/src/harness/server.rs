//! The generations of a running server.

use std::{
    process::Child,
    str::FromStr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{ChildStderr, ChildStdout},
    sync::watch,
    time::timeout,
};

use super::{
    proc,
    process::{Exit, Process},
    ready::Ready,
    watchdog::Watchdog,
};

/// How long a killed process may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(2);
/// So many lines of stderr are shown in an error.
const SHOWN: usize = 30;

/// A server program that was started, with all its generations.
///
/// Dropping it kills whatever still runs. If that happens in a panic, as when a test fails, what
/// the generations wrote is printed.
#[derive(Debug)]
pub struct Server {
    program: String,
    first: Process,
    output: Arc<watch::Sender<Output>>,
    /// `None` only while the server is made.
    watchdog: Option<Watchdog>,
}

#[derive(Debug)]
struct Output {
    first: Process,
    ready: Vec<Ready>,
    stdout: Vec<String>,
    stderr: Vec<String>,
    /// Of stdout and stderr, how many have ended because all generations have, or closed them.
    ended: usize,
}

impl Server {
    pub(crate) fn new(program: String, mut child: Child) -> anyhow::Result<Self> {
        let first = Process::open(child.id())?;
        let output = Arc::new(watch::Sender::new(Output::new(first.clone())));
        // From here on, dropping the server kills the child.
        let mut server = Self {
            program,
            first,
            output: Arc::clone(&output),
            watchdog: None,
        };
        server.watchdog = Some(Watchdog::start(child.id())?);
        let stdout = child.stdout.take().context("stdout is no pipe")?;
        let stderr = child.stderr.take().context("stderr is no pipe")?;
        let stdout = ChildStdout::from_std(stdout)?;
        let stderr = ChildStderr::from_std(stderr)?;
        let of_stderr = Arc::clone(&output);
        tokio::spawn(async move {
            lines(stderr, |line| {
                of_stderr.send_modify(|output| output.stderr.push(line))
            })
            .await;
            of_stderr.send_modify(|output| output.ended += 1);
        });
        tokio::spawn(async move {
            lines(stdout, |line| {
                output.send_modify(|output| output.take(line))
            })
            .await;
            output.send_modify(|output| output.ended += 1);
        });
        Ok(server)
    }

    /// The process that was started.
    #[must_use]
    pub fn first(&self) -> &Process {
        &self.first
    }

    /// The generation that became ready last.
    ///
    /// # Panics
    ///
    /// If none has; after [`Program::start`](super::Program::start) one has.
    #[must_use]
    pub fn newest(&self) -> Ready {
        let output = self.output.borrow();
        output
            .ready
            .last()
            .cloned()
            .unwrap_or_else(|| panic!("{} was never ready", self.program))
    }

    /// All generations that became ready, in their order.
    #[must_use]
    pub fn generations(&self) -> Vec<Ready> {
        self.output.borrow().ready.clone()
    }

    /// Waits until generation `generation` is ready.
    ///
    /// # Errors
    ///
    /// If it is not within `within`, or all generations have ended; with the end of stderr.
    pub async fn ready(&self, generation: u64, within: Duration) -> anyhow::Result<Ready> {
        let what = format!("generation {generation} to be ready");
        self.seen(&what, within, |output| {
            output
                .ready
                .iter()
                .find(|ready| ready.generation == generation)
                .cloned()
        })
        .await
    }

    /// Waits until any generation is ready.
    pub(crate) async fn any_ready(&self, within: Duration) -> anyhow::Result<Ready> {
        self.seen("a ready line", within, |output| {
            output.ready.first().cloned()
        })
        .await
    }

    /// Waits for a line on stderr that contains `text`, and returns it. Lines that came before
    /// count too.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub async fn stderr_line(&self, text: &str, within: Duration) -> anyhow::Result<String> {
        self.seen(&format!("{text:?} on stderr"), within, |output| {
            output
                .stderr
                .iter()
                .find(|line| line.contains(text))
                .cloned()
        })
        .await
    }

    /// Waits for a log line on stderr that contains `text`, and returns the value of its field
    /// `key`. For programs that print no `ready` line; give them `NO_COLOR=1`.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready), or if the line has no such field or its value is another type's.
    pub async fn logged<T: FromStr>(
        &self,
        text: &str,
        key: &str,
        within: Duration,
    ) -> anyhow::Result<T> {
        let line = self.stderr_line(text, within).await?;
        // What the line itself says comes behind what it happened in.
        let mut words = line.split_whitespace().rev();
        words
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .and_then(|value| value.parse().ok())
            .with_context(|| format!("no usable field {key} in {line:?}"))
    }

    /// Replaces a process by HUP, and returns generation `number` once that logs that it serves. For
    /// programs that print no `ready` line.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub async fn replace(
        &self,
        process: &Process,
        number: u64,
        within: Duration,
    ) -> anyhow::Result<Process> {
        process.signal(Signal::HUP)?;
        let line = format!("serving generation={number}");
        Ok(Process::open(self.logged(&line, "pid", within).await?)?)
    }

    async fn seen<T>(
        &self,
        what: &str,
        within: Duration,
        find: impl Fn(&Output) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut output = self.output.subscribe();
        let event = output.wait_for(|output| find(output).is_some() || output.ended == 2);
        let failure = match timeout(within, event).await {
            Ok(Ok(output)) => match find(&output) {
                Some(found) => return Ok(found),
                None => "all generations have ended".to_owned(),
            },
            Ok(Err(_)) => "its output is read no more".to_owned(),
            Err(_) => format!("waited {within:?}"),
        };
        let exit = self
            .first
            .try_exit()
            .map(|exit| format!("\nthe first process: {exit}"));
        bail!(
            "{}: {failure} for {what}{}{}",
            self.program,
            exit.unwrap_or_default(),
            self.tail_of_stderr()
        )
    }

    /// What all generations wrote to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        self.output.borrow().stderr.clone()
    }

    /// What all generations wrote to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<String> {
        self.output.borrow().stdout.clone()
    }

    fn tail_of_stderr(&self) -> String {
        let stderr = self.stderr();
        let tail = &stderr[stderr.len().saturating_sub(SHOWN)..];
        tail.iter().map(|line| format!("\n  | {line}")).collect()
    }

    /// Every process of this server that there is, zombies too: all that are in its process
    /// group, whether or not they ever became ready.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn processes(&self) -> anyhow::Result<Vec<proc::Stat>> {
        let group = self.first.pid();
        Ok(proc::all()?
            .into_iter()
            .filter(|stat| stat.group == group)
            .collect())
    }

    /// Sends TERM to the newest generation and waits until every generation has ended. Returns
    /// how the newest one ended.
    ///
    /// # Errors
    ///
    /// If one still runs after `within`.
    pub async fn terminate(&self, within: Duration) -> anyhow::Result<Exit> {
        let end = Instant::now() + within;
        let newest = self.newest();
        newest.process.signal(Signal::TERM)?;
        for ready in self.generations() {
            let left = end.saturating_duration_since(Instant::now());
            ready
                .process
                .exit(left)
                .await
                .map_err(|error| anyhow!("{error}{}", self.tail_of_stderr()))?;
        }
        newest
            .process
            .try_exit()
            .context("it has ended and has no status")
    }

    /// Kills everything and reaps what is ours. Bounded.
    fn kill(&self) {
        let known: Vec<Process> = std::iter::once(self.first.clone())
            .chain(self.generations().into_iter().map(|ready| ready.process))
            .collect();
        // Those that left the group, or never announced themselves, are found by their parents.
        let offspring: Vec<Process> = known
            .iter()
            .filter(|process| process.is_running())
            .filter_map(|process| proc::descendants(process.pid()).ok())
            .flatten()
            .filter_map(|stat| Process::open(stat.pid).ok())
            .collect();
        if let Some(group) = i32::try_from(self.first.pid()).ok().and_then(Pid::from_raw) {
            // Fails if nobody is left in it.
            let _ = kill_process_group(group, Signal::KILL);
        }
        for process in known.iter().chain(&offspring) {
            let _ = process.signal(Signal::KILL);
        }
        let end = Instant::now() + KILLED_WITHIN;
        let me = std::process::id();
        while Instant::now() < end {
            let running = known
                .iter()
                .chain(&offspring)
                .filter(|p| p.is_running())
                .count();
            let mut left = self.processes().unwrap_or_default();
            // Orphans that never announced themselves came to us, too.
            left.retain(|stat| !(stat.is_zombie() && stat.parent == me && reap(stat.pid)));
            if running == 0 && left.is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        eprintln!(
            "{}: killed, but not gone after {KILLED_WITHIN:?}",
            self.program
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let output = self.output.borrow();
            eprintln!("---- stdout of {}", self.program);
            output.stdout.iter().for_each(|line| eprintln!("{line}"));
            eprintln!("---- stderr of {}", self.program);
            output.stderr.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Output {
    fn new(first: Process) -> Self {
        let (ready, stdout, stderr) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            first,
            ready,
            stdout,
            stderr,
            ended: 0,
        }
    }

    fn take(&mut self, line: String) {
        match Ready::parse(&line) {
            Some(Ok(mut ready)) => {
                // The exit status of a child is told once: keep one handle to the first process.
                if ready.pid() == self.first.pid() {
                    ready.process = self.first.clone();
                }
                self.ready.push(ready);
            }
            Some(Err(error)) => self.stderr.push(format!("harness: {line:?}: {error}")),
            None => {}
        }
        self.stdout.push(line);
    }
}

fn reap(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

/// Hands on each line up to the end, whatever bytes it has.
async fn lines(source: impl AsyncRead + Unpin, mut take: impl FnMut(String)) {
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    while matches!(source.read_until(b'\n', &mut line).await, Ok(1..)) {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        take(String::from_utf8_lossy(text).into_owned());
        line.clear();
    }
}
