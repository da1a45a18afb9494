//! The arguments of `handover run`.

use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use handover::SocketOptions;
use nix::sys::signal::Signal;

use super::{
    config::{Config, Meaning, Output, Wish},
    dialects::{Dialect, Dialects},
    plan::Settings,
};
use crate::args::seconds;

/// How it is known that a process is ready.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ready {
    /// It says so, or lives for a while and says nothing
    Auto,
    /// It says so: sd_notify, crank's descriptor, einhorn's ack
    Said,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A socket: [NAME=]HOST:PORT, [NAME=]unix:PATH, unix:@NAME, udp:HOST:PORT, seqpacket:PATH,
    /// datagram:PATH
    #[arg(long, short, value_name = "[NAME=]ADDRESS")]
    listen: Vec<String>,
    /// So many connections may wait to be accepted
    #[arg(long, value_name = "N")]
    backlog: Option<u32>,
    /// The permissions of Unix sockets, in octal
    #[arg(long, value_name = "MODE", value_parser = octal)]
    mode: Option<u32>,
    /// So many processes serve at a time, and are replaced one after the other
    #[arg(long, short = 'n', value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
    /// How it is known that a process is ready
    #[arg(long, value_enum, default_value = "auto")]
    ready: Ready,
    /// A process that says nothing is ready once it has lived for so long
    #[arg(long, value_name = "SECS", default_value = "3", value_parser = seconds)]
    ready_after: Duration,
    /// A process that is not ready after so long is killed
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = seconds)]
    start_timeout: Duration,
    /// A new process has to live for so long, ready, before the old one is told to leave
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = seconds)]
    probation: Duration,
    /// A replaced process is killed after so long
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = seconds)]
    drain_timeout: Duration,
    /// At the end, what still runs is killed after so long
    #[arg(long, value_name = "SECS", default_value = "25", value_parser = seconds)]
    stop_timeout: Duration,
    /// So many replaced processes of a worker may still drain
    #[arg(long, value_name = "N", default_value = "8")]
    max_draining: usize,
    /// End with the program, and with its status, instead of starting it again
    #[arg(long)]
    no_restart: bool,
    /// Do not tell the program of its sockets, or of us, in this way
    #[arg(long, value_enum, value_name = "DIALECT")]
    no_env: Vec<Dialect>,
    /// What a replaced process is told by
    #[arg(long, value_name = "SIGNAL", default_value = "TERM", value_parser = signal)]
    replace_signal: Signal,
    /// What all processes are told by at the end
    #[arg(long, value_name = "SIGNAL", default_value = "TERM", value_parser = signal)]
    stop_signal: Signal,
    /// The signal at which this supervisor replaces its own program
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    reexec_signal: Option<Signal>,
    /// Run the program as this user, with all groups of it
    #[arg(long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Write our process id there, which stays
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// Write generation:pid of each process there
    #[arg(long, value_name = "PATH")]
    status_file: Option<PathBuf>,
    /// Variables for the program, one file each, read anew at each start
    #[arg(long, value_name = "DIR")]
    env_dir: Option<PathBuf>,
    /// Open a control socket there, for `handover status`, `upgrade`, `drain`, `cut` and `reexec`
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Put the process id before each line that the program writes
    #[arg(long)]
    prefix: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

impl Run {
    pub(crate) fn config(self) -> Config {
        let mut words = self.program.into_iter();
        let mut options = SocketOptions::new();
        if let Some(backlog) = self.backlog {
            options = options.backlog(backlog);
        }
        if let Some(mode) = self.mode {
            options = options.mode(mode);
        }
        let mut meanings = vec![
            (Signal::SIGHUP, Meaning::Replace),
            (Signal::SIGTERM, Meaning::Stop { as_it_is: false }),
            (Signal::SIGINT, Meaning::Stop { as_it_is: false }),
        ];
        if let Some(signal) = self.reexec_signal {
            meanings.retain(|(other, _)| *other != signal);
            meanings.push((signal, Meaning::Reexec));
        }
        Config {
            // Clap has seen to it that there is one.
            program: words.next().unwrap_or_default(),
            args: words.collect(),
            listen: self.listen.into_iter().map(Wish::new).collect(),
            inherit: true,
            options,
            plan: Settings {
                workers: self.workers,
                ready_after: Some(self.ready_after).filter(|_| matches!(self.ready, Ready::Auto)),
                start_timeout: self.start_timeout,
                probation: self.probation,
                drain_timeout: Some(self.drain_timeout),
                stop_timeout: Some(self.stop_timeout),
                max_draining: self.max_draining,
                restart: !self.no_restart,
                backoff: Duration::from_millis(200),
                backoff_max: Duration::from_secs(30),
                stable: Duration::from_secs(10),
                // A process hands its own environment on.
                asks: self.env_dir.is_none(),
                answer: Duration::from_secs(5),
            },
            listens_for_ready: true,
            dialects: Dialects::without(&self.no_env),
            replace_signal: self.replace_signal,
            stop_signal: self.stop_signal,
            meanings,
            every: None,
            user: self.user,
            pid_file: self.pid_file,
            status_file: self.status_file,
            env_dir: self.env_dir,
            control: self.control,
            output: match self.prefix {
                true => Output::Prefix,
                false => Output::Inherit,
            },
            name: "handover",
        }
    }
}

/// Reads `TERM`, `SIGTERM` or `15`.
pub(crate) fn signal(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    let name = match upper.strip_prefix("SIG") {
        Some(_) => upper.clone(),
        None => format!("SIG{upper}"),
    };
    let number = || Signal::try_from(text.parse::<i32>().ok()?).ok();
    Signal::from_str(&name)
        .ok()
        .or_else(number)
        .ok_or_else(|| "no such signal".to_owned())
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o7777) => Ok(mode),
        _ => Err("not permissions in octal, such as 660".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(signal(text), Ok(Signal::SIGTERM), "{text}");
        }
        for text in ["", "SIG", "TERMS", "0", "-1", "99"] {
            assert!(signal(text).is_err(), "{text}");
        }
        assert_eq!(octal("660"), Ok(0o660));
        assert!(octal("888").is_err() && octal("77777").is_err());
    }
}
