//! The program `handover`: holds the sockets of a program, and asks a service for its status, an
//! upgrade, a drain, a cut.

mod args;
mod commands;
#[cfg(target_os = "linux")]
mod compat;
mod exit;
#[cfg(target_os = "linux")]
mod run;
mod show;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(code) = inner(std::env::args_os().skip(1)) {
        return code;
    }
    match_command(std::env::args_os().collect())
}

/// What this program is to itself: what runs before a program does, and what could take its place.
#[cfg(target_os = "linux")]
fn inner(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let first = args.next()?;
    if first == run::shim::NAME {
        return Some(run::shim::run(args));
    }
    // As the supervisor was called: with its name first.
    if first == run::reexec::CHECK {
        // It ends with an error if these cannot be read.
        let args: Vec<_> = args.collect();
        match compat::Called::by(&args) {
            Some(called) => drop(called.config()),
            None => drop(args::Args::parse_from(args)),
        }
        return Some(run::reexec::answer());
    }
    None
}

fn match_command(args: Vec<OsString>) -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(called) = compat::Called::by(&args) {
        return called.run();
    }
    commands::run(args::Args::parse_from(args))
}
