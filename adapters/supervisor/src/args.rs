//! The arguments.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args as Group, Parser, Subcommand};

use crate::exit;

/// Holds the sockets of a program; asks a service where it stands, and for an upgrade, a drain, a cut
#[derive(Debug, Parser)]
#[command(name = "handover", version, after_help = exit::HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replace the service by its next release, and wait until the old process has gone
    #[command(after_help = exit::HELP)]
    Upgrade(Upgrade),
    /// Show where the service stands
    #[command(after_help = exit::HELP)]
    Status(Status),
    /// End the service, and wait until it has finished what it does
    #[command(after_help = exit::HELP)]
    Drain(Drain),
    /// End what still drains, now
    #[command(after_help = exit::HELP)]
    Cut(Cut),
    /// Let the supervisor of a service replace its own program
    #[command(after_help = exit::HELP)]
    Reexec(Cut),
    /// Hold the sockets of a program, start it, and replace it without losing a connection
    #[cfg(target_os = "linux")]
    Run(Box<crate::run::args::Run>),
    /// Be socketmaster or start_server, with their flags: `compat socketmaster -command …`
    #[cfg(target_os = "linux")]
    #[command(disable_help_flag = true)]
    Compat {
        /// socketmaster or start_server, and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Try whether a program could start, without starting the service
    #[command(after_help = exit::HELP)]
    Check(Check),
}

/// Which service, and how to show what it says.
#[derive(Debug, Group)]
pub(crate) struct Service {
    /// The control socket of the service
    #[arg(long, value_name = "PATH", env = "HANDOVER_CONTROL")]
    pub(crate) control: PathBuf,
    /// Write each event as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) service: Service,
    /// Only if this generation serves
    #[arg(long, value_name = "N")]
    pub(crate) if_generation: Option<u64>,
    /// Try first whether the program can start
    #[arg(long)]
    pub(crate) check: bool,
    /// Wait for so long
    #[arg(long, value_name = "SECS", default_value = "600", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// Be done once the successor serves
    #[arg(long)]
    pub(crate) no_wait_for_drain: bool,
}

#[derive(Debug, Group)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) service: Service,
    /// Show it as it changes, until the service has gone, or `q`
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Wait for so long
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Group)]
pub(crate) struct Drain {
    #[command(flatten)]
    pub(crate) service: Service,
    /// Wait for so long
    #[arg(long, value_name = "SECS", default_value = "600", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Group)]
pub(crate) struct Cut {
    #[command(flatten)]
    pub(crate) service: Service,
    /// Wait for so long
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Group)]
pub(crate) struct Check {
    /// Kill it if it is not ready after so long
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// Start it in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Write what it has shown as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The program, which must use Handover, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// Reads a decimal number of seconds, up to a year.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    if !(0.0..=31_536_000.0).contains(&seconds) {
        return Err("not between 0 and a year".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn seconds_are_decimal_and_bounded() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["", "x", "-1", "NaN", "inf", "1e300"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
