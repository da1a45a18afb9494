//! All reference servers under load, through upgrades, faults and drains, for as long as one likes.

use std::process::ExitCode;

use clap::Parser;
use handover_tests::soak::{self, Options};

/// Puts the reference servers through a random mix of upgrades, faults and restarts under load, and
/// fails at the first thing that does not hold.
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    options: Options,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let Program { options } = Program::parse();
    let report = soak::run(&options).await?;
    println!("{report}");
    println!("log, report and picture: {}", options.out.display());
    Ok(match report.failed {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}
