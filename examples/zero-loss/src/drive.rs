//! One storm, and the restarts within it.

use std::time::Duration;

use handover_tests::{
    harness::{Exit, Process},
    load::{Mark, Report, Storm},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{args::Args, progress::Progress, servers::Servers};

/// Load before the first restart, to compare with.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long a replaced process may drain before it counts as stuck.
const GONE_WITHIN: Duration = Duration::from_secs(70);
/// So many of the servers' last log lines are shown after a fault.
const LOG_SHOWN: usize = 12;

/// What came of the storm against one server.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) report: Report,
    /// Restarts that were to be.
    pub(crate) restarts: u64,
    /// What went wrong beside lost requests.
    pub(crate) faults: Vec<String>,
}

impl Outcome {
    /// Whether nothing was lost and each restart brought a new generation.
    pub(crate) fn is_flawless(&self) -> bool {
        self.report.lost() == 0
            && self.report.restarts_taken() as u64 == self.restarts
            && self.faults.is_empty()
    }
}

/// Drives `servers` through the storm that `args` ask for.
pub(crate) async fn drive(mut servers: Servers, args: &Args) -> Outcome {
    let name = servers.name();
    let mut faults = Vec::new();
    let target = match servers.target() {
        Ok(target) => target,
        Err(error) => unreachable!("a server that is ready has an address: {error}"),
    };
    let storm = Storm::start(args.storm(target));
    let mut progress = Progress::new(name, args.restarts);
    let mut exits = JoinSet::new();
    progress.during(&storm, sleep(WARM_UP)).await;
    for restart in 1..=args.restarts {
        let next_at = Instant::now() + args.seconds_between;
        let old = servers.newest().process;
        let mark = storm.mark(restart);
        // A drain may take longer than the time up to the next restart: it is awaited beside.
        exits.spawn(gone(mark, old));
        if let Err(error) = progress.during(&storm, servers.restart(restart)).await {
            faults.push(format!("restart {restart}: {error:#}"));
            break;
        }
        progress.restarted(restart);
        progress.during(&storm, sleep_until(next_at)).await;
    }
    if !faults.is_empty() {
        // Whoever was not replaced will not go by itself.
        exits.abort_all();
    }
    while let Some(gone) = progress.during(&storm, exits.join_next()).await {
        match gone {
            Ok((mark, old, Ok((at, exit)))) => {
                storm.gone_at(mark, at);
                faults.extend(fault(&old, exit));
            }
            Ok((_, _, Err(error))) => faults.push(format!("{error:#}")),
            Err(_) => {}
        }
    }
    let report = progress.during_stop(storm.stop()).await;
    match servers.end().await {
        Ok((newest, exit)) => faults.extend(fault(&newest, exit)),
        Err(error) => faults.push(format!("the last generation: {error:#}")),
    }
    if !faults.is_empty() {
        let log = servers.log();
        let shown = &log[log.len().saturating_sub(LOG_SHOWN)..];
        faults.extend(shown.iter().map(|line| format!("log: {line}")));
    }
    Outcome {
        name,
        report,
        restarts: args.restarts,
        faults,
    }
}

type Gone = (Mark, Process, anyhow::Result<(Instant, Exit)>);

async fn gone(mark: Mark, old: Process) -> Gone {
    let exit = old
        .exit(GONE_WITHIN)
        .await
        .map(|exit| (Instant::now(), exit));
    (mark, old, exit)
}

fn fault(process: &Process, exit: Exit) -> Option<String> {
    let clean = matches!(exit, Exit::Status(0) | Exit::Unknown);
    (!clean).then(|| format!("process {}: {exit}", process.pid()))
}
