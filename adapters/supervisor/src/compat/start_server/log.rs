//! Where it writes to, and how it leaves the terminal.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Command, ExitCode, Stdio},
};

use super::Options;
use crate::run::reexec;

/// Tells a process that it has left.
const LEFT: &str = "HANDOVER_DAEMON";

/// Lets this process and all that it starts write to the log. What it starts for that inherits no
/// socket of ours.
pub(super) fn redirect(options: &Options) -> Result<(), String> {
    let Some(log) = &options.log_file else {
        return Ok(());
    };
    // After an exec of ourselves it is so already.
    if std::env::var_os(reexec::VARIABLE).is_some() {
        return Ok(());
    }
    let failed = |err: io::Error| format!("cannot write to the log {log}: {err}");
    let to = |fd: std::os::fd::BorrowedFd<'_>| -> io::Result<()> {
        rustix::stdio::dup2_stdout(fd)?;
        Ok(rustix::stdio::dup2_stderr(fd)?)
    };
    match log.trim_start().strip_prefix('|') {
        Some(command) => {
            let (read, write) = io::pipe().map_err(failed)?;
            let mut shell = Command::new("/bin/sh");
            shell
                .args(["-c", command])
                .stdin(Stdio::from(read))
                .process_group(0);
            // It ends when the last who writes to it has, and is reaped as all others are.
            drop(shell.spawn().map_err(failed)?);
            to(write.as_fd()).map_err(failed)
        }
        None => {
            let file = File::options().create(true).append(true).open(log);
            to(file.map_err(failed)?.as_fd()).map_err(failed)
        }
    }
}

/// Whether this process is still the one at the terminal.
pub(super) fn must_leave(options: &Options) -> Result<bool, String> {
    if std::env::var_os(LEFT).is_none() && std::env::var_os(reexec::VARIABLE).is_none() {
        return match options.log_file {
            Some(_) => Ok(true),
            None => Err("--daemonize needs --log-file".to_owned()),
        };
    }
    // Fails if it leads a session already.
    let _ = nix::unistd::setsid();
    Ok(false)
}

/// Starts it anew without a terminal, and is done.
pub(super) fn leave(args: Vec<OsString>) -> Result<ExitCode, String> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("start_server")
        .args(args)
        .env(LEFT, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let started = command.spawn();
    let child = started.map_err(|err| format!("cannot leave the terminal: {err}"))?;
    println!("start_server (pid {}) runs", child.id());
    Ok(ExitCode::SUCCESS)
}
