//! The two ways to replace a server.

use std::{
    env,
    net::TcpListener,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use handover_tests::{
    harness::{Exit, Process, Program, Ready, Server, Signal},
    load::Target,
};

pub(crate) const HANDOVER: &str = "Handover";
pub(crate) const AXUM: &str = "plain axum";
pub(crate) const BARE: &str = "the bare framework";

/// How long a new generation may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// A running server, with all it takes to replace it.
#[derive(Debug)]
pub(crate) enum Servers {
    /// One process after the other, each started by the one before it.
    Handover(Server),
    /// Processes that this program starts and stops, on a socket that it keeps.
    Bare {
        name: &'static str,
        listener: TcpListener,
        /// The reference server, if it is not this program itself.
        server: Option<PathBuf>,
        all: Vec<Server>,
    },
}

impl Servers {
    /// This program itself, or another server of Handover's.
    pub(crate) async fn handover(server: Option<&Path>) -> anyhow::Result<Self> {
        let program = match server {
            Some(server) => reference(server, "http=127.0.0.1:0")?,
            None => program("serve")?,
        };
        Ok(Self::Handover(program.start().await?))
    }

    /// axum without Handover: this program itself.
    pub(crate) async fn axum() -> anyhow::Result<Self> {
        Self::without(AXUM, None).await
    }

    /// A reference server without Handover.
    pub(crate) async fn bare(server: &Path) -> anyhow::Result<Self> {
        Self::without(BARE, Some(server.to_owned())).await
    }

    async fn without(name: &'static str, server: Option<PathBuf>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen on a port of 127.0.0.1")?;
        let first = bare_generation(server.as_deref(), &listener, 0).await?;
        Ok(Self::Bare {
            name,
            listener,
            server,
            all: vec![first],
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Handover(_) => HANDOVER,
            Self::Bare { name, .. } => name,
        }
    }

    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        self.newest().first_target()
    }

    /// The process that serves new connections, once no restart is under way.
    pub(crate) fn newest(&self) -> Ready {
        match self {
            Self::Handover(server) => server.newest(),
            Self::Bare { all, .. } => all[all.len() - 1].newest(),
        }
    }

    /// Replaces the newest generation by generation `next`, and returns when that one is ready.
    pub(crate) async fn restart(&mut self, next: u64) -> anyhow::Result<()> {
        let old = self.newest().process;
        match self {
            Self::Handover(server) => {
                old.signal(Signal::HUP)?;
                server.ready(next, READY_WITHIN).await?;
            }
            // The best that can be done with it: the new one serves before the old one is told.
            Self::Bare {
                listener,
                server,
                all,
                ..
            } => {
                all.push(bare_generation(server.as_deref(), listener, next).await?);
                old.signal(Signal::TERM)?;
            }
        }
        Ok(())
    }

    /// Ends the newest generation.
    pub(crate) async fn end(&self) -> anyhow::Result<(Process, Exit)> {
        let newest = self.newest().process;
        newest.signal(Signal::TERM)?;
        let exit = newest.exit(Duration::from_secs(40)).await?;
        Ok((newest, exit))
    }

    /// What the servers logged, the last lines of it.
    pub(crate) fn log(&self) -> Vec<String> {
        match self {
            Self::Handover(server) => server.stderr(),
            Self::Bare { all, .. } => all.iter().flat_map(Server::stderr).collect(),
        }
    }
}

async fn bare_generation(
    server: Option<&Path>,
    listener: &TcpListener,
    generation: u64,
) -> anyhow::Result<Server> {
    let socket: OwnedFd = listener.try_clone()?.into();
    let generation = generation.to_string();
    let program = match server {
        Some(server) => reference(server, "http=stdin")?
            .arg("--no-handover")
            .args(["--bare-generation", &generation]),
        None => program("serve-axum")?.args(["--generation", &generation]),
    };
    program
        .stdin(socket)
        .ready_within(READY_WITHIN)
        .start()
        .await
}

/// A reference server on this address; one that is only named is taken from beside this program.
fn reference(server: &Path, at: &str) -> anyhow::Result<Program> {
    let beside = env::current_exe().context("find this program")?;
    let beside = beside.with_file_name(server);
    let path = match server.components().count() {
        1 if beside.exists() => beside,
        1 => bail!(
            "there is no {}: build it with `cargo build -p handover-tests`, in the same profile",
            beside.display()
        ),
        _ => server.to_owned(),
    };
    Ok(Program::new(path)
        .args(["--listen", at])
        .env("RUST_LOG", log()))
}

fn log() -> String {
    env::var("RUST_LOG").unwrap_or_else(|_| "warn".into())
}

/// This program itself, as a server.
fn program(command: &str) -> anyhow::Result<Program> {
    let path = env::current_exe().context("find this program")?;
    Ok(Program::new(path).arg(command).env("RUST_LOG", log()))
}
