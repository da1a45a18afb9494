//! Starts the program of the next generation.

use std::{
    env,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use super::{
    aside::aside,
    attempt::Course,
    process::{Candidate, Process},
    relay::{self, Ends},
};
use crate::sys;

/// The variable that tells a successor which of its descriptors is the channel.
pub(crate) const VARIABLE: &str = "HANDOVER_CHANNEL";

/// How this process was started, and so how its successor is.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// As it was called: looked up again at each start, so that a replaced file or a symlink that
    /// points elsewhere by now is followed.
    pub(crate) name: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) dir: PathBuf,
    /// A variable that is not for the successor.
    pub(crate) without: Option<&'static str>,
    /// What it prints goes to our standard error: ours is somebody else's to read.
    pub(crate) quiet: bool,
    /// A supervisor holds the sockets, and follows who serves from them.
    pub(crate) supervised: bool,
}

impl Program {
    /// What this process was started with.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let mut args = env::args_os();
        let name = match args.next().filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => env::current_exe()?.into(),
        };
        Ok(Self {
            name,
            args: args.collect(),
            dir: start_dir()?,
            without: None,
            quiet: false,
            supervised: false,
        })
    }

    /// Where the program is looked for now. A bare name goes through `PATH`.
    fn path(&self) -> PathBuf {
        let name = Path::new(&self.name);
        if name.components().count() > 1 {
            self.dir.join(name)
        } else {
            name.to_owned()
        }
    }
}

/// The directory we are in, by the name our starter used: behind a symlink that is moved at each
/// deployment, that is another directory later.
fn start_dir() -> io::Result<PathBuf> {
    let real = env::current_dir()?;
    let named = env::var_os("PWD")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    let same = |dir: &PathBuf| {
        let (Ok(a), Ok(b)) = (dir.metadata(), real.metadata()) else {
            return false;
        };
        (a.dev(), a.ino()) == (b.dev(), b.ino())
    };
    Ok(named.filter(same).unwrap_or(real))
}

/// Starts a successor with one end of the channel. `stderr` is the pipe for its standard error, or
/// it gets ours.
pub(crate) async fn spawn(
    program: Program,
    channel: OwnedFd,
    stderr: Option<Ends>,
    course: Arc<Course>,
) -> io::Result<Candidate> {
    // Fork, exec and the wait for it take milliseconds in a large process.
    let spawned = aside(move || {
        let process = spawn_now(&program, channel, stderr)?;
        Ok(Candidate::new(process, course))
    })?;
    // Held: a process that came to be after this one had ended would take itself for the first.
    spawned.held().done().await?
}

fn spawn_now(program: &Program, channel: OwnedFd, stderr: Option<Ends>) -> io::Result<Process> {
    let mut command = std::process::Command::new(program.path());
    // std empties the signal mask and restores SIGPIPE for the child.
    command
        .arg0(&program.name)
        .args(&program.args)
        .current_dir(&program.dir);
    command.env(
        VARIABLE,
        format!("1:{}:{}", channel.as_raw_fd(), std::process::id()),
    );
    if let Some(variable) = program.without {
        command.env_remove(variable);
    }
    match stderr {
        Some(ends) => relay::equip(&mut command, ends.read, ends.write)?,
        // That of this process, if it has one.
        None => drop(command.env_remove(relay::VARIABLE)),
    }
    if program.quiet {
        command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
    }
    sys::inherit(&mut command, channel);
    let mut command = tokio::process::Command::from(command);
    let mut tries = 0;
    loop {
        match command.spawn() {
            Ok(child) => return Ok(Process::Child(child)),
            // Another thread that forks at this moment may hold the file open for writing.
            Err(err) if err.kind() == io::ErrorKind::ExecutableFileBusy && tries < 20 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(err) => return Err(err),
        }
    }
}
