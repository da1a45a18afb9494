//! Replaces a real server under load, again and again, and counts what was lost.
//!
//! ```text
//! cargo run --release -p zero-loss
//! cargo run --release -p zero-loss -- --restarts 5 --rtt-ms 10 --against axum
//! cargo run --release -p zero-loss -- --restarts 5 --server ref-warp --against bare
//! ```
//!
//! The server is this program itself, as a process of its own. It gets a real
//! SIGHUP, starts its successor, and drains. The clients never retry: whatever
//! is not a complete, correct answer is lost. The exit status is 0 if Handover
//! lost nothing, each restart brought a new generation, and each drain was
//! complete.

mod args;
mod drive;
mod progress;
mod serve;
mod servers;
mod tables;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::{
    args::{Args, Command, Opponent},
    drive::{Outcome, drive},
    servers::Servers,
};

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match args.command {
            Some(Command::Serve) => serve::handover::run().await.map(|()| ExitCode::SUCCESS),
            Some(Command::ServeAxum { generation }) => serve::axum::run(generation)
                .await
                .map(|()| ExitCode::SUCCESS),
            None => tokio::select! {
                judged = demonstrate(&args) => judged,
                // The servers are in process groups of their own; dropping them ends them.
                _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
            },
        }
    })
}

async fn demonstrate(args: &Args) -> anyhow::Result<ExitCode> {
    println!("{args}\n");
    let mut outcomes = Vec::new();
    if !args.only_against {
        outcomes.push(drive(Servers::handover(args.server.as_deref()).await?, args).await);
    }
    match args.against {
        Some(Opponent::Axum) => outcomes.push(drive(Servers::axum().await?, args).await),
        Some(Opponent::Bare) => {
            let server = args.server.as_deref();
            let server = server.context("--against bare is the framework of a --server")?;
            outcomes.push(drive(Servers::bare(server).await?, args).await);
        }
        None => {}
    }
    println!("{}", tables::all(&outcomes));
    for outcome in &outcomes {
        outcome
            .faults
            .iter()
            .for_each(|fault| println!("{}: {fault}", outcome.name));
    }
    let other = outcomes
        .iter()
        .find(|outcome| outcome.name != servers::HANDOVER);
    if let Some(other) = other.filter(|other| other.report.lost() == 0) {
        let name = other.name;
        println!("{name} lost nothing: this storm was too weak to tell; try --rtt-ms 10");
    }
    // What others lose is for comparison; this program vouches for Handover alone.
    let mut judged = outcomes
        .iter()
        .filter(|outcome| outcome.name == servers::HANDOVER);
    let flawless = judged.all(Outcome::is_flawless);
    Ok(if flawless {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
