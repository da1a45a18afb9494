//! The command line.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use handover_tests::load::{Clients, Config, Target};

/// Replaces a real server under load and counts what was lost
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// How often the server is replaced
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) restarts: u64,
    /// Persistent connections; three in four are idle most of the time. 24 other clients open
    /// connections of their own: new ones, slow answers, streams, uploads, heads in pieces
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub(crate) clients: usize,
    /// So many of them are busy; one in four by default
    #[arg(long, value_name = "N")]
    busy: Option<usize>,
    /// What passes between a client's last look at its connection and its request, as on a network
    #[arg(long, default_value_t = 0, value_name = "MS")]
    rtt_ms: u64,
    /// Time between two restarts
    #[arg(long, default_value = "1.5", value_name = "SECS", value_parser = seconds)]
    pub(crate) seconds_between: Duration,
    /// Replace this server instead of this program's own: one of the reference servers, such as
    /// `ref-warp` or `ref-actix-web`, built beside this program, or the path of another that prints
    /// the same `ready` line
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) server: Option<PathBuf>,
    /// Show the same storm against another server
    #[arg(long, value_name = "SERVER")]
    pub(crate) against: Option<Opponent>,
    /// Leave Handover out, and show only the other server
    #[arg(long, requires = "against")]
    pub(crate) only_against: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What this program does when it is one of the servers.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve with Handover
    #[command(hide = true)]
    Serve,
    /// Serve with plain axum, on the listening socket that is stdin
    #[command(hide = true)]
    ServeAxum {
        /// The number of this generation
        #[arg(long)]
        generation: u64,
    },
}

/// Whom to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Opponent {
    /// `axum::serve` with its graceful shutdown, on a socket that a parent keeps open
    Axum,
    /// The framework of `--server` alone, with its graceful shutdown, on a socket that a parent
    /// keeps open
    Bare,
}

impl Args {
    fn mix(&self) -> Clients {
        let mut clients = Clients::persistent(self.clients);
        if let Some(busy) = self.busy {
            clients.keepalive = busy.min(self.clients);
            clients.idle = self.clients - clients.keepalive;
        }
        clients
    }

    /// About how long all of it takes.
    fn takes(&self) -> Duration {
        // The load before the first restart, and the last answers after the last one.
        let around = Duration::from_secs(5);
        let restarts = u32::try_from(self.restarts).unwrap_or(u32::MAX);
        let one = self
            .seconds_between
            .saturating_mul(restarts)
            .saturating_add(around);
        match self.against {
            Some(_) if !self.only_against => one.saturating_mul(2),
            _ => one,
        }
    }

    /// The storm that was asked for.
    pub(crate) fn storm(&self, target: Target) -> Config {
        let mut config = Config::new(target).with_clients(self.mix());
        config.rtt = Duration::from_millis(self.rtt_ms);
        config
    }
}

impl fmt::Display for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.mix();
        write!(
            f,
            "{} restarts, one every {} s, under {} idle and {} busy connections, {} clients that \
             connect for each request, {} that send heads in pieces, {} slow answers, {} streams, \
             {} uploads; round trip {} ms; nobody retries; it takes about {:.0} s",
            self.restarts,
            self.seconds_between.as_secs_f64(),
            clients.idle,
            clients.keepalive,
            clients.fresh,
            clients.dribble,
            clients.slow,
            clients.stream,
            clients.upload,
            self.rtt_ms,
            self.takes().as_secs_f64(),
        )
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
