//! `handover exec-shim`: what runs in a new process until the program does.
//!
//! Some of what a program is to find can only be made by the process itself: `LISTEN_PID` is its
//! number, and its rights are dropped last. A program of its own for that, which is this one, needs
//! no code between `fork` and `exec`, where little is allowed.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use nix::sys::signal::SigSet;

use super::user;

/// What makes this program the shim.
pub(crate) const NAME: &str = "exec-shim";
/// For who is to be nobody else, or needs no process id.
const NONE: &str = "-";

/// The arguments: before the program and its own.
pub(crate) fn args(identity: Option<&user::Identity>, pid: bool) -> [String; 3] {
    let identity = identity.map_or_else(|| NONE.to_owned(), user::Identity::to_word);
    let pid = if pid { "pid" } else { NONE };
    [NAME.to_owned(), identity, pid.to_owned()]
}

/// Becomes the program. Returns if it cannot.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(identity), Some(pid), Some(program)) = (args.next(), args.next(), args.next()) else {
        return failed("it is not called by hand", 125);
    };
    // Ours are blocked, and std passes that on. What has come since waits until here.
    if let Err(err) = SigSet::empty().thread_set_mask() {
        return failed(&format!("cannot unblock signals: {err}"), 126);
    }
    let identity = identity.to_string_lossy();
    if identity != NONE
        && let Err(why) = user::become_it(&identity)
    {
        return failed(&why, 126);
    }
    let mut command = Command::new(&program);
    command.args(args);
    if pid != NONE {
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    let err = command.exec();
    let status = match err.kind() {
        io::ErrorKind::NotFound => 127,
        _ => 126,
    };
    failed(
        &format!("cannot start {}: {err}", program.display()),
        status,
    )
}

fn failed(why: &str, status: u8) -> ExitCode {
    eprintln!("handover: {why}");
    ExitCode::from(status)
}

/// What a status of the shim's own says, for people.
pub(crate) fn explain(status: i32) -> &'static str {
    match status {
        126 => " (it could not be executed)",
        127 => " (there is no such program)",
        _ => "",
    }
}
