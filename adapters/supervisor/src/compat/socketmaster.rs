//! As `socketmaster`: one socket at descriptor 3, `EINHORN_FDS=3`, replaced on HUP after a while.
//!
//! | it promises | and does wrong, which is not done here |
//! |---|---|
//! | the new process before the old one goes | an older one that drains counts as one that serves |
//! | TERM, INT and QUIT are passed on, and it ends with its last process | TERM within `-start` is lost; after a failed start it never ends |
//! | it restarts what dies | it does not |
//! | USR1 replaces socketmaster itself | the socket is closed, the processes are orphans |
//! | the output goes to it line by line | the last lines are lost |
//! | a Unix socket | its file stays, and the next start fails |

use std::{ffi::OsString, time::Duration};

use handover::SocketOptions;
use nix::sys::signal::Signal;

use super::{Flags, Task};
use crate::run::{
    config::{Config, Meaning, Output, Wish},
    dialects::{Dialect, Dialects},
    plan::Settings,
};

/// What is listened on if nothing else is said.
const LISTEN: &str = "tcp://:8080";
/// How long a process has to live to be ready, in milliseconds.
const START: u64 = 3000;

pub(super) fn read(args: Vec<OsString>) -> Result<Task, String> {
    let mut flags = Flags::new(args);
    let (mut command, mut listen, mut start) = (None, LISTEN.to_owned(), START);
    let (mut syslog, mut user) = (false, None);
    while let Some(name) = flags.next()? {
        match name.as_str() {
            "command" => command = Some(flags.value()?),
            "listen" => listen = flags.value()?,
            "start" => start = flags.number()?,
            "syslog" => syslog = flags.on(),
            "user" => user = Some(flags.value()?).filter(|user| !user.is_empty()),
            _ => {
                return Err(format!(
                    "there is no flag -{name}; there are -command, -listen, -start, -syslog, -user"
                ));
            }
        }
    }
    let command = command.filter(|command| !command.is_empty());
    let command = command.ok_or("-command is missing: the program to run")?;
    let start = Duration::from_millis(start);
    let mut options = SocketOptions::new();
    if listen.starts_with("tcp://") {
        // One socket for both families.
        options = options.v6_only(false);
    }
    Ok(Task::Run(Box::new(Config {
        program: command.into(),
        args: flags.rest(),
        listen: vec![Wish::new(address(&listen)?)],
        inherit: false,
        options,
        plan: Settings {
            workers: 1,
            ready_after: Some(start),
            start_timeout: Duration::from_secs(60).max(2 * start),
            probation: Duration::ZERO,
            drain_timeout: None,
            stop_timeout: None,
            max_draining: usize::MAX,
            restart: true,
            backoff: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            stable: Duration::from_secs(10),
            asks: false,
            answer: Duration::ZERO,
        },
        listens_for_ready: true,
        dialects: Dialects::only(&[Dialect::Einhorn, Dialect::Notify]),
        replace_signal: Signal::SIGTERM,
        stop_signal: Signal::SIGTERM,
        meanings: vec![
            (Signal::SIGHUP, Meaning::Replace),
            (Signal::SIGUSR1, Meaning::Reexec),
            (Signal::SIGTERM, Meaning::Stop { as_it_is: true }),
            (Signal::SIGINT, Meaning::Stop { as_it_is: true }),
            (Signal::SIGQUIT, Meaning::Stop { as_it_is: true }),
        ],
        every: None,
        user,
        pid_file: None,
        status_file: None,
        env_dir: None,
        control: None,
        output: match syslog {
            true => Output::Syslog,
            false => Output::PrefixToStderr,
        },
        name: "socketmaster",
    })))
}

/// An address in our spelling.
fn address(url: &str) -> Result<String, String> {
    let bad = || {
        format!("-listen {url:?}: write tcp://HOST:PORT, tcp4://, tcp6://, unix:///PATH or fd://N")
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
    let on_all = |all: &str| match rest.strip_prefix(':') {
        Some(port) => format!("{all}:{port}"),
        None => rest.to_owned(),
    };
    match scheme {
        "tcp" if std::path::Path::new("/proc/net/if_inet6").exists() => Ok(on_all("[::]")),
        "tcp" | "tcp4" => Ok(on_all("0.0.0.0")),
        "tcp6" => Ok(on_all("[::]")),
        "unix" => Ok(format!("unix:{rest}")),
        "fd" => Ok(format!("fd:{rest}")),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::config, *};

    #[test]
    fn its_flags_are_read() {
        let args = [
            "-command",
            "app",
            "--listen=tcp4://:81",
            "-start",
            "7",
            "--user=nobody",
            "--",
            "-x",
        ];
        let config = config(read, &args).unwrap();
        assert_eq!(
            (config.program, config.args),
            ("app".into(), vec!["-x".into()])
        );
        assert_eq!(config.listen, [Wish::new("0.0.0.0:81")]);
        assert_eq!(config.plan.ready_after, Some(Duration::from_millis(7)));
        assert_eq!(config.user.as_deref(), Some("nobody"));
        assert_eq!(config.output, Output::PrefixToStderr);
    }

    #[test]
    fn what_is_no_flag_begins_the_arguments() {
        let args = ["-syslog", "-command=app", "one", "-listen"];
        let config = config(read, &args).unwrap();
        assert_eq!(config.args, ["one", "-listen"]);
        assert_eq!(config.output, Output::Syslog);
    }

    #[test]
    fn addresses_are_in_our_spelling() {
        for (url, ours) in [
            ("tcp4://127.0.0.1:80", "127.0.0.1:80"),
            ("tcp6://:80", "[::]:80"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
            ("fd://3", "fd:3"),
        ] {
            assert_eq!(address(url).as_deref(), Ok(ours), "{url}");
        }
        assert!(address("127.0.0.1:80").is_err() && address("udp://:1").is_err());
    }

    #[test]
    fn mistakes_are_named() {
        for (args, why) in [
            (&["-listen"][..], "needs a value"),
            (&["-start", "x", "-command", "a"], "not a number"),
            (&["-colour"], "no flag -colour"),
            (&[], "-command is missing"),
        ] {
            let err = config(read, args).unwrap_err();
            assert!(err.contains(why), "{args:?}: {err}");
        }
    }
}
