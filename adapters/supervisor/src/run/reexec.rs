//! Replaces the program of the supervisor itself, and nothing else: by `exec`, so that its process
//! id stays, its processes stay its own, and its sockets stay open.
//!
//! Whatever the new program needs to know is written to a file in memory, whose descriptor it finds
//! first among those that are [kept](handover::supervise::Keeping). It is asked before whether it
//! can read that and our arguments: an old supervisor that goes on is better than none.

use std::{
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use handover::supervise::{Keeping, kept};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::{Failure, output::SavedPipe, plan::Plan};

/// Names the descriptors that were kept.
pub(crate) const VARIABLE: &str = "HANDOVER_REEXEC";
/// What makes this program say whether it could go on.
pub(crate) const CHECK: &str = "reexec-check";
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// All that is known. Numbers of descriptors are places in what was kept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) plan: Plan,
    pub(crate) sockets: Vec<SavedSocket>,
    pub(crate) children: Vec<SavedChild>,
    pub(crate) pipes: Vec<SavedPipe>,
    pub(crate) pid_file: Option<(PathBuf, usize)>,
    pub(crate) control: Option<(String, usize)>,
    pub(crate) ack: Option<(PathBuf, usize)>,
    /// Who has asked for it.
    #[serde(default)]
    pub(crate) caller: Option<usize>,
    #[serde(default)]
    pub(crate) followers: Vec<SavedFollower>,
    #[serde(default)]
    pub(crate) announced: bool,
    #[serde(default)]
    pub(crate) started: Duration,
    #[serde(default)]
    pub(crate) last: Option<(Option<String>, Duration)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedSocket {
    pub(crate) label: String,
    pub(crate) fd: usize,
    #[serde(default)]
    pub(crate) said: Option<String>,
    #[serde(default)]
    pub(crate) at: Option<i32>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedChild {
    pub(crate) id: u64,
    pub(crate) pid: u32,
    /// Its descriptor, its address, its user.
    #[serde(default)]
    pub(crate) mailbox: Option<(usize, String, u32)>,
    #[serde(default)]
    pub(crate) progress: Option<String>,
    /// The first of those that have put each other in their place; itself if it is not said.
    #[serde(default)]
    pub(crate) line: Option<u64>,
    /// Of one that another one has started.
    #[serde(default)]
    pub(crate) pidfd: Option<usize>,
    #[serde(default)]
    pub(crate) group: Option<u32>,
}

/// Somebody who waits for an upgrade that has come to serve.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedFollower {
    pub(crate) fd: usize,
    pub(crate) generation: u64,
    pub(crate) since: Duration,
}

/// What was kept, and what it is.
pub(crate) struct Kept {
    pub(crate) saved: Saved,
    fds: Vec<Option<OwnedFd>>,
}

impl Kept {
    /// Takes a descriptor out.
    pub(crate) fn fd(&mut self, index: usize) -> io::Result<OwnedFd> {
        let fd = self.fds.get_mut(index).and_then(Option::take);
        fd.ok_or_else(|| super::other(format!("descriptor {index} was not kept")))
    }
}

/// What was kept over an `exec`, if this process is one after it.
pub(crate) fn take() -> Result<Option<Kept>, Failure> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let Some(fds) = kept(&value)? else {
        return Ok(None);
    };
    let mut fds: Vec<_> = fds.into_iter().map(Some).collect();
    let Some(state) = fds.first_mut().and_then(Option::take) else {
        return Err(super::other("nothing was kept over the exec").into());
    };
    let mut state = File::from(state);
    state.rewind()?;
    let saved = serde_json::from_reader(io::BufReader::new(state))?;
    Ok(Some(Kept { saved, fds }))
}

/// Becomes the program that goes by our name now. Returns only with an error; then nothing has
/// changed.
///
/// `fds` are those that `saved` speaks of, from 1.
pub(crate) fn exec(saved: &Saved, fds: &[BorrowedFd<'_>]) -> io::Error {
    match try_exec(saved, fds) {
        Ok(never) => match never {},
        Err(err) => err,
    }
}

fn try_exec(saved: &Saved, fds: &[BorrowedFd<'_>]) -> io::Result<std::convert::Infallible> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().map(PathBuf::from).unwrap_or_default();
    let path = match super::find(&name) {
        Some(path) => path,
        None => std::env::current_exe()?,
    };
    let mut state = File::from(memfd_create("handover-state", MemfdFlags::CLOEXEC)?);
    state.write_all(&serde_json::to_vec(saved)?)?;
    check(&path, &args, &state)?;
    let all = std::iter::once(state.as_fd()).chain(fds.iter().copied());
    let keeping = Keeping::new(all)?;
    let c_string = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
    let args = args
        .iter()
        .map(|arg| c_string(arg))
        .collect::<io::Result<Vec<_>>>()?;
    let mut env = Vec::new();
    for (name, value) in std::env::vars_os().filter(|(name, _)| name != VARIABLE) {
        let mut text = name;
        text.push("=");
        text.push(value);
        env.push(c_string(&text)?);
    }
    env.push(c_string(OsStr::new(&format!(
        "{VARIABLE}={}",
        keeping.value()
    )))?);
    // It leaves the signals blocked, which std's does not.
    Ok(nix::unistd::execve(
        &c_string(path.as_os_str())?,
        &args,
        &env,
    )?)
}

/// Asks the program whether it can go on from there.
fn check(path: &Path, args: &[OsString], state: &File) -> io::Result<()> {
    let mut input = state.try_clone()?;
    input.rewind()?;
    let mut child = Command::new(path)
        .arg(CHECK)
        .args(args)
        // Nothing is to be begun anew.
        .env(VARIABLE, CHECK)
        .stdin(Stdio::from(input))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let failed = |why: String| super::other(format!("{} cannot go on: {why}", path.display()));
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let mut why = String::new();
                if let Some(stderr) = child.stderr.take() {
                    let _ = stderr.take(2048).read_to_string(&mut why);
                }
                return Err(failed(format!("{status}: {}", why.trim())));
            }
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("it does not answer within {PATIENCE:?}")));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Says whether this program can read the state on standard input. It has read the arguments.
pub(crate) fn answer() -> ExitCode {
    match serde_json::from_reader::<_, Saved>(io::stdin().lock()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("handover: the state of the supervisor cannot be read: {err}");
            ExitCode::FAILURE
        }
    }
}
