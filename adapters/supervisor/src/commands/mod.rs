//! What each command does.

mod check;
mod status;
mod watch;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use handover::control::{Event, Failure, Request, UpgradeRequest};
use handover_supervisor::{Client, Error};

use crate::{
    args::{Args, Command, Service},
    exit::Exit,
    show::Show,
};

/// Runs one.
pub(crate) fn run(args: Args) -> ExitCode {
    match args.command {
        #[cfg(target_os = "linux")]
        Command::Run(run) => crate::run::run(run.config()),
        command => ask(command).into(),
    }
}

fn ask(command: Command) -> Exit {
    match command {
        // Above.
        #[cfg(target_os = "linux")]
        Command::Run(_) => Exit::Done,
        #[cfg(target_os = "linux")]
        Command::Compat { args } => {
            let name = args.first().map(|name| name.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            eprintln!(
                "handover: {name:?} is not known here; there are socketmaster and start_server"
            );
            Exit::Usage
        }
        Command::Reexec(args) => follow(&args.service, &Request::Reexec, args.timeout, |_| false),
        Command::Upgrade(upgrade) => {
            let mut request = UpgradeRequest::default().check(upgrade.check);
            if let Some(generation) = upgrade.if_generation {
                request = request.if_generation(generation);
            }
            let done =
                |event: &Event| upgrade.no_wait_for_drain && matches!(event, Event::Serving { .. });
            let request = Request::Upgrade(request);
            follow(&upgrade.service, &request, upgrade.timeout, done)
        }
        Command::Status(args) if args.watch => watch::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Drain(drain) => follow(&drain.service, &Request::Drain, drain.timeout, |_| false),
        Command::Check(args) => check::run(args),
        Command::Cut(cut) => follow(&cut.service, &Request::Cut, cut.timeout, |_| false),
    }
}

/// Asks, shows what is said, and makes an exit status of the outcome. `done` ends it earlier.
fn follow(
    service: &Service,
    request: &Request,
    timeout: Duration,
    done: impl Fn(&Event) -> bool,
) -> Exit {
    let mut show = Show::new(service.json);
    let deadline = Instant::now() + timeout;
    let events = match Client::new(&service.control).ask(request, deadline) {
        Ok(events) => events,
        Err(err) => return failed(&mut show, &err),
    };
    for event in events {
        match event {
            Ok(event) => {
                show.event(&event);
                if done(&event) {
                    return Exit::Done;
                }
                if let Some(exit) = outcome(&event) {
                    return exit;
                }
            }
            Err(err) => return failed(&mut show, &err),
        }
    }
    // Not reached: what ends without an outcome ends with an error.
    Exit::Lost
}

fn outcome(event: &Event) -> Option<Exit> {
    Some(match event {
        Event::Drained { cut, abandoned, .. } if cut + abandoned > 0 => Exit::Incomplete,
        Event::Drained { .. }
        | Event::Cut { .. }
        | Event::Reexecuted { .. }
        | Event::Status { .. } => Exit::Done,
        Event::Failed {
            kind: Failure::Lost,
            ..
        } => Exit::Lost,
        Event::Failed { .. } | Event::Resumed { .. } => Exit::Failed,
        Event::Refused { .. } => Exit::Refused,
        _ => return None,
    })
}

fn failed(show: &mut Show, err: &Error) -> Exit {
    show.error(err);
    if err.is_unreachable() {
        Exit::Unreachable
    } else if err.is_timeout() {
        Exit::TimedOut
    } else {
        Exit::Lost
    }
}
