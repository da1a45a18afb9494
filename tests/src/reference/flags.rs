//! The flags of the reference servers.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::listen::Listen;

/// Flags that all reference servers take; flatten them into a program's own.
#[derive(Args, Clone, Debug)]
#[non_exhaustive]
pub struct Flags {
    /// Address to listen on; `NAME=ADDR` names it; may be given several times
    #[arg(long = "listen", value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub listen: Vec<Listen>,
    /// PEM files: all TCP listeners speak TLS
    #[arg(long, num_args = 2, value_names = ["CERT", "KEY"])]
    pub tls: Option<Vec<PathBuf>>,
    /// Keep what opens session tickets from the successor
    #[arg(long, requires = "tls")]
    pub own_ticket_keys: bool,
    /// Write the pid of the newest generation to this file
    #[arg(long, value_name = "PATH")]
    pub pid_file: Option<PathBuf>,
    /// Answer at a control socket at this path
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Serve probes, status, the page and metrics on this address, too
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// The token for the buttons of that page
    #[arg(long, value_name = "TOKEN", requires = "admin")]
    pub admin_token: Option<String>,
    /// How many older generations may drain before the oldest is cut
    #[arg(long, value_name = "N")]
    pub max_draining: Option<usize>,
    /// How long to serve on, not ready, before a drain begins
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub lame_duck: Option<Duration>,
    /// How long a drain may take
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub deadline: Option<Duration>,
    /// How long a drain may take once a successor serves
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub upgrade_deadline: Option<Duration>,
    /// Over how long to spread what makes clients connect again
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub close_spread: Option<Duration>,
    /// How long a successor may take to become ready
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub ready_timeout: Option<Duration>,
    /// How long a successor must live before its predecessor lets go
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub probation: Option<Duration>,
    /// Let a successor take over at once whatever it is given
    #[arg(long)]
    pub eager_adoption: bool,
    /// How long a successor may leave a moved connection without an answer
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub move_timeout: Option<Duration>,
    /// Worker threads
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// How long this process initialises before it is ready
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub ready_delay: Option<Duration>,
    /// Read this file once at start, and do the fault that it names
    #[arg(long, value_name = "PATH")]
    pub fault_file: Option<PathBuf>,
    /// Keep so many bytes for the successor, which checks them
    #[arg(long, value_name = "BYTES")]
    pub keep_state: Option<usize>,
    /// Do not move idle connections to the successor
    #[arg(long)]
    pub no_move: bool,
    /// Take only connections that begin with a header of the PROXY protocol
    #[arg(long)]
    pub proxy_protocol: bool,
    /// Serve with the framework's own graceful shutdown, for comparison
    #[arg(long)]
    pub no_handover: bool,
    /// The number that the bare framework gives itself. It listens on `stdin`, too, for a parent that
    /// keeps the socket
    #[arg(long, default_value_t = 0, value_name = "N", requires = "no_handover")]
    pub bare_generation: u64,
}

impl Flags {
    /// A tokio runtime with as many workers as asked for, or as there are processors.
    ///
    /// # Errors
    ///
    /// If the threads cannot be started.
    pub fn runtime(&self) -> std::io::Result<tokio::runtime::Runtime> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if let Some(workers) = self.workers {
            builder.worker_threads(workers.max(1));
        }
        builder.enable_all().build()
    }
}

/// Reads a decimal number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn decimals_and_repeated_addresses_are_read() {
        let program = Program::try_parse_from([
            "ref",
            "--listen",
            "a=127.0.0.1:0",
            "--listen",
            "unix:/run/b",
            "--deadline",
            "2.5",
        ]);
        let flags = program.unwrap_or_else(|error| panic!("{error}")).flags;
        assert_eq!(flags.deadline, Some(Duration::from_millis(2500)));
        let names: Vec<_> = flags.listen.iter().map(Listen::name).collect();
        assert_eq!(names, ["a", "unix:/run/b"]);
        assert!(Program::try_parse_from(["ref", "--deadline", "-1"]).is_err());
    }
}
