//! The program `handover`: asks a service for its status, an upgrade, a drain, a cut.

mod args;
mod commands;
mod exit;
mod show;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::run(args::Args::parse()).into()
}
