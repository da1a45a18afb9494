//! `start_server --restart` and `--stop`: speak to one that runs, by its files and by signals.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::ExitCode,
    thread::sleep,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};

use super::Options;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(50);

pub(super) fn run(options: &Options) -> Result<ExitCode, String> {
    let path = options.pid_file.as_deref();
    let path = path.ok_or("--restart and --stop need --pid-file")?;
    let master = Master::find(path)?;
    if options.stop {
        master.signal(Signal::TERM)?;
        while master.lives() {
            sleep(EVERY);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let status = options.status_file.as_deref();
    let status = status.ok_or("--restart needs --status-file")?;
    let before = generations(status)?.into_iter().max().unwrap_or_default();
    master.signal(Signal::HUP)?;
    loop {
        if !master.lives() {
            return Err("it has ended instead".to_owned());
        }
        let now = generations(status)?;
        if !now.is_empty() && now.iter().all(|generation| *generation > before) {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(EVERY);
    }
}

/// One that runs, by the pid file that it holds locked: so the number is its own.
struct Master {
    pid: Pid,
    file: File,
}

impl Master {
    fn find(path: &Path) -> Result<Self, String> {
        let failed = |err: io::Error| format!("cannot read the pid file {}: {err}", path.display());
        let file = File::open(path).map_err(failed)?;
        let text = io::read_to_string(&file).map_err(failed)?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("there is no process id in {}", path.display()))?;
        let master = Self { pid, file };
        match master.lives() {
            true => Ok(master),
            false => Err(format!(
                "nobody holds the pid file {}: it does not run",
                path.display()
            )),
        }
    }

    fn lives(&self) -> bool {
        match flock(&self.file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                let _ = flock(&self.file, FlockOperation::Unlock);
                false
            }
            Err(_) => true,
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(self.pid, signal).map_err(|err| format!("cannot signal {:?}: {err}", self.pid))
    }
}

/// The generations in a status file.
fn generations(path: &Path) -> Result<Vec<u64>, String> {
    let text = fs::read_to_string(path);
    let text =
        text.map_err(|err| format!("cannot read the status file {}: {err}", path.display()))?;
    let generation = |line: &str| line.split_once(':')?.0.parse().ok();
    Ok(text.lines().filter_map(generation).collect())
}
