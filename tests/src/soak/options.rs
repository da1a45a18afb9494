//! What a soak is told.

use std::path::PathBuf;

use clap::Args;

/// The flags of the soak.
#[derive(Args, Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How long it takes
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    pub minutes: f64,
    /// Where the order of events comes from; a new one each time if it is not given
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Only this server; may be given several times
    #[arg(long, value_name = "SERVER")]
    pub only: Vec<String>,
    /// The directory for the log, the report and the picture
    #[arg(long, value_name = "DIR", default_value = "target/soak")]
    pub out: PathBuf,
    /// Requests a second to each server, about
    #[arg(long, value_name = "N", default_value_t = 30.0)]
    pub rate: f64,
    /// Seconds between two events at a server, on average
    #[arg(long, value_name = "SECS", default_value_t = 4.0)]
    pub every: f64,
    /// Where the servers are, with the points at which they fail; built first if it is not given
    #[arg(long, value_name = "DIR")]
    pub servers: Option<PathBuf>,
}
