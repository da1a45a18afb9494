//! What the programs share that the benchmarks of an upgrade replace, and what those ask of them.

use std::{
    env,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail};
use handover_tests::reference::{Info, ready_line};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

/// How such a program is started.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Args {
    /// On how many sockets it listens.
    pub sockets: usize,
    /// Where it keeps what its successor needs that its library does not hand over.
    pub state: PathBuf,
    /// Whether what it has is a successor's at once, and not after a probation.
    pub at_once: bool,
    /// When it began.
    pub began: Duration,
}

impl Args {
    /// Those of this program, if it is to do anything: with none it has only to say when it began.
    fn read() -> anyhow::Result<Option<Self>> {
        let began = now();
        let args: Vec<String> = env::args().skip(1).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (sockets, state, at_once) = match args[..] {
            [] => {
                println!("began={}", began.as_nanos());
                return Ok(None);
            }
            [sockets, state] => (sockets, state, false),
            [sockets, state, "at-once"] => (sockets, state, true),
            _ => bail!("SOCKETS STATE [at-once]"),
        };
        Ok(Some(Self {
            sockets: sockets.parse().context("the number of sockets")?,
            state: state.into(),
            at_once,
            began,
        }))
    }

    /// Says that this generation is ready, since when, and when it began. It listens here first.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub fn say_ready(&self, info: Info, first: SocketAddr) -> io::Result<()> {
        let (began, ready) = (self.began.as_nanos(), now().as_nanos());
        let times = format!("times pid={} began={began} ready={ready}\n", info.pid);
        // In one piece: a successor shares the pipe.
        let lines = times + &ready_line(info, [("http", first)]);
        io::stdout().write_all(lines.as_bytes())
    }
}

/// The `main` of such a program.
///
/// # Errors
///
/// If its arguments are not `SOCKETS STATE [at-once]` or none, and those of `serve`.
pub fn main(serve: impl FnOnce(Args) -> anyhow::Result<()>) -> anyhow::Result<()> {
    Args::read()?.map_or(Ok(()), serve)
}

/// When a generation began and was ready.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Times {
    /// The first line of its `main`.
    pub began: Duration,
    /// It says so.
    pub ready: Duration,
}

impl Times {
    /// Those that process `pid` has said among these lines.
    ///
    /// # Errors
    ///
    /// If it has said none.
    pub fn of(pid: u32, lines: &[String]) -> anyhow::Result<Self> {
        let start = format!("times pid={pid} ");
        let line = lines.iter().find_map(|line| line.strip_prefix(&start));
        let line = line.with_context(|| format!("process {pid} has not said its times"))?;
        let of = |key: &str| -> anyhow::Result<Duration> {
            let mut words = line.split(' ');
            let value = words.find_map(|word| word.strip_prefix(key));
            Ok(Duration::from_nanos(value.context("no time")?.parse()?))
        };
        Ok(Self {
            began: of("began=")?,
            ready: of("ready=")?,
        })
    }
}

/// The time by a clock that all processes share.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Lets this process, and those that it starts, open as many descriptors as they may.
///
/// # Errors
///
/// If the kernel does not.
pub fn open_many() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
    Ok(())
}
