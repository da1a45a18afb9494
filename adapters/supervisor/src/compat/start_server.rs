//! As `start_server` of Server::Starter.
//!
//! | it promises | and does wrong, which is not done here |
//! |---|---|
//! | sockets by `SERVER_STARTER_PORT`, `--port`, `--path` | its log process inherits them, and the next start fails |
//! | the new process, alive for `--interval`, before the old one is told | a process id in a pid file may be another's by then |
//! | INT and TERM end it | a signal in the middle of a start is lost; a process that does not end is waited for for ever: a second signal ends that |
//! | `--envdir`, `--status-file`, `--restart`, `--stop` | |

mod commands;
mod log;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use handover::SocketOptions;
use nix::sys::signal::Signal;

use super::{Flags, Task};
use crate::run::{
    args::signal,
    config::{Config, Meaning, Output, Wish},
    dialects::{Dialect, Dialects},
    plan::Settings,
};

/// What the flags say.
#[derive(Debug)]
struct Options {
    listen: Vec<Wish>,
    dir: Option<PathBuf>,
    interval: u64,
    on_hup: Signal,
    on_term: Signal,
    pid_file: Option<PathBuf>,
    status_file: Option<PathBuf>,
    env_dir: Option<PathBuf>,
    log_file: Option<String>,
    daemonize: bool,
    auto_restart: bool,
    auto_restart_interval: u64,
    kill_old_delay: Option<u64>,
    backlog: Option<u32>,
    restart: bool,
    stop: bool,
}

pub(super) fn read(args: Vec<OsString>) -> Result<Task, String> {
    let mut flags = Flags::new(args.clone());
    let options = options(&mut flags)?;
    let mut words = flags.rest().into_iter();
    if options.restart || options.stop {
        return commands::run(&options).map(Task::Done);
    }
    let program = words.next().ok_or("the program to run is missing")?;
    if options.daemonize && log::must_leave(&options)? {
        return log::leave(args).map(Task::Done);
    }
    let config = config(&options, program, words.collect());
    log::redirect(&options)?;
    if let Some(dir) = &options.dir {
        std::env::set_current_dir(dir)
            .map_err(|err| format!("cannot go to {}: {err}", dir.display()))?;
    }
    Ok(Task::Run(Box::new(config)))
}

fn options(flags: &mut Flags) -> Result<Options, String> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let mut options = Options {
        listen: Vec::new(),
        dir: None,
        interval: 1,
        on_hup: Signal::SIGTERM,
        on_term: Signal::SIGTERM,
        pid_file: None,
        status_file: None,
        env_dir: std::env::var_os("ENVDIR").map(PathBuf::from),
        log_file: None,
        daemonize: false,
        auto_restart: number("ENABLE_AUTO_RESTART").is_some_and(|on: u64| on != 0),
        auto_restart_interval: number("AUTO_RESTART_INTERVAL").unwrap_or(360),
        kill_old_delay: number("KILL_OLD_DELAY"),
        backlog: None,
        restart: false,
        stop: false,
    };
    while let Some(name) = flags.next()? {
        match name.as_str() {
            "port" => options.listen.push(port(&flags.value()?)?),
            "path" => {
                let path = flags.value()?;
                options.listen.push(Wish {
                    address: format!("unix:{path}"),
                    said: Some(path),
                    at: None,
                });
            }
            "dir" => options.dir = Some(flags.value()?.into()),
            "interval" => options.interval = flags.number()?,
            "signal-on-hup" => options.on_hup = signal(&flags.value()?)?,
            "signal-on-term" => options.on_term = signal(&flags.value()?)?,
            "pid-file" => options.pid_file = Some(flags.value()?.into()),
            "status-file" => options.status_file = Some(flags.value()?.into()),
            "envdir" => options.env_dir = Some(flags.value()?.into()),
            "log-file" => options.log_file = Some(flags.value()?),
            "daemonize" => options.daemonize = flags.on(),
            "enable-auto-restart" => options.auto_restart = flags.on(),
            "auto-restart-interval" => options.auto_restart_interval = flags.number()?,
            "kill-old-delay" => options.kill_old_delay = Some(flags.number()?),
            "backlog" => options.backlog = u32::try_from(flags.number()?).ok(),
            "restart" => options.restart = flags.on(),
            "stop" => options.stop = flags.on(),
            _ => return Err(format!("there is no flag --{name}")),
        }
    }
    Ok(options)
}

fn config(options: &Options, program: OsString, args: Vec<OsString>) -> Config {
    // Anybody may connect to its Unix sockets.
    let mut sockets = SocketOptions::new().mode(0o777);
    if let Some(backlog) = options.backlog {
        sockets = sockets.backlog(backlog);
    }
    let interval = Duration::from_secs(options.interval);
    let delay = options
        .kill_old_delay
        .unwrap_or(if options.auto_restart { 5 } else { 0 });
    Config {
        program,
        args,
        listen: options.listen.clone(),
        inherit: false,
        options: sockets,
        plan: Settings {
            workers: 1,
            ready_after: Some(interval),
            start_timeout: Duration::from_secs(60).max(2 * interval),
            probation: Duration::from_secs(delay),
            drain_timeout: None,
            stop_timeout: None,
            max_draining: usize::MAX,
            restart: true,
            backoff: interval,
            backoff_max: interval,
            stable: interval,
            asks: false,
            answer: Duration::ZERO,
        },
        listens_for_ready: true,
        dialects: Dialects::only(&[Dialect::ServerStarter, Dialect::Notify]),
        replace_signal: options.on_hup,
        stop_signal: options.on_term,
        meanings: vec![
            (Signal::SIGHUP, Meaning::Replace),
            (Signal::SIGTERM, Meaning::Stop { as_it_is: false }),
            (Signal::SIGINT, Meaning::Stop { as_it_is: true }),
        ],
        every: Some(Duration::from_secs(options.auto_restart_interval.max(1)))
            .filter(|_| options.auto_restart),
        user: None,
        pid_file: options.pid_file.clone(),
        status_file: options.status_file.clone(),
        env_dir: options.env_dir.clone(),
        control: None,
        output: Output::Inherit,
        name: "start_server",
    }
}

/// Reads `[HOST:][u]PORT[=FD]`.
fn port(text: &str) -> Result<Wish, String> {
    let bad = || {
        format!(
            "--port {text:?}: write PORT, HOST:PORT or [IPV6]:PORT, u before PORT for UDP, =FD after it"
        )
    };
    let (place, at) = match text.rsplit_once('=') {
        Some((place, fd)) => (place, Some(fd.parse().map_err(|_| bad())?)),
        None => (text, None),
    };
    if at.is_some_and(|at: i32| at < 3) {
        return Err(bad());
    }
    let (host, port) = place.rsplit_once(':').unwrap_or(("", place));
    let (udp, port) = match port.strip_prefix('u') {
        Some(port) => ("udp:", port),
        None => ("", port),
    };
    port.parse::<u16>().map_err(|_| bad())?;
    let said = match host {
        "" => port.to_owned(),
        host => format!("{host}:{port}"),
    };
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    Ok(Wish {
        address: format!("{udp}{host}:{port}"),
        said: Some(said),
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_it_does() {
        let wish = |address: &str, said: &str, at| Wish {
            address: address.to_owned(),
            said: Some(said.to_owned()),
            at,
        };
        assert_eq!(port("80"), Ok(wish("0.0.0.0:80", "80", None)));
        assert_eq!(
            port("127.0.0.1:80=5"),
            Ok(wish("127.0.0.1:80", "127.0.0.1:80", Some(5)))
        );
        assert_eq!(port("[::1]:80"), Ok(wish("[::1]:80", "[::1]:80", None)));
        assert_eq!(port("u53"), Ok(wish("udp:0.0.0.0:53", "53", None)));
        assert_eq!(
            port("127.0.0.1:u53"),
            Ok(wish("udp:127.0.0.1:53", "127.0.0.1:53", None))
        );
        for text in ["", "x", "80=x", "80=2", "99999", "host:"] {
            assert!(port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn its_flags_are_read() {
        let args = [
            "--port=80",
            "--path",
            "/run/a.sock",
            "--interval=2",
            "--signal-on-hup=QUIT",
            "--kill-old-delay=3",
            "--",
            "app",
            "--port=1",
        ];
        let config = super::super::config(read, &args).unwrap();
        assert_eq!(
            (config.program, config.args),
            ("app".into(), vec!["--port=1".into()])
        );
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.replace_signal, Signal::SIGQUIT);
        assert_eq!(config.plan.probation, Duration::from_secs(3));
        assert_eq!(config.plan.ready_after, Some(Duration::from_secs(2)));
        for (args, why) in [(&["--port=80"][..], "program"), (&["--colour"], "no flag")] {
            let err = super::super::config(read, args).unwrap_err();
            assert!(err.contains(why), "{err}");
        }
    }
}
