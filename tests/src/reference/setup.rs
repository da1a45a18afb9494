//! What the reference servers do before and after they serve, whatever they serve with.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, bail, ensure};
use handover::{Accept, Generation, Graceful, Listener, Policy, Report};
use handover_tls::{TicketKeys, Tls};
use tokio::signal::unix::{SignalKind, signal};

use super::{Fault, Flags, Info, ready_line};

/// The name of what `--keep-state` keeps.
const STATE: &str = "reference";

/// A generation that has been started after its flags, with all its listeners.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setup {
    /// The generation.
    pub generation: Generation,
    /// A listener for each `--listen`.
    pub listeners: Vec<Listener>,
    /// Who answers.
    pub info: Info,
    tls: Option<Tls>,
    fault: Option<Fault>,
}

impl Setup {
    /// Starts the generation, opens its listeners, and initialises for as long as it is told to.
    ///
    /// # Errors
    ///
    /// If an address cannot be listened on, or what was inherited cannot be used.
    pub async fn start(flags: &Flags) -> anyhow::Result<Self> {
        let mut builder = Generation::builder().graceful(Graceful::with_policy(policy(flags)));
        if let Some(path) = &flags.pid_file {
            builder = builder.pid_file(path);
        }
        if let Some(path) = &flags.control {
            builder = builder.control(path);
        }
        if let Some(most) = flags.max_draining {
            builder = builder.max_draining(most);
        }
        if let Some(time) = flags.ready_timeout {
            builder = builder.ready_timeout(time);
        }
        if let Some(time) = flags.probation {
            builder = builder.probation(time);
        }
        builder = builder.lazy_adoption(!flags.eager_adoption);
        if let Some(time) = flags.move_timeout {
            builder = builder.move_timeout(time);
        }
        let generation = builder.start()?;
        if let Some(length) = flags.keep_state {
            let state = move || (0..length).map(|at| at as u8).collect::<Vec<_>>();
            // Without one the predecessor died before it had sent it.
            if let Some(left) = generation.take_state(STATE) {
                let whole = left.bytes() == state();
                ensure!(whole, "the state that was left is not what was kept");
            }
            generation.keep_state(STATE, 1, move || Ok(state()));
        }
        let tls = flags.tls.as_deref().map(|files| tls(&generation, files));
        let tls = tls.transpose().context("--tls")?;
        let mut listeners = Vec::new();
        for listen in &flags.listen {
            listeners.push(generation.listen(listen.to_string()).await?);
        }
        let fault = Fault::read(flags.fault_file.as_deref()).context("--fault-file")?;
        if let Some(time) = flags.ready_delay {
            generation.progress(format!("initialising for {time:?}"));
            tokio::time::sleep(time).await;
        }
        if let Some(fault) = fault {
            fault.before_ready().await;
        }
        let info = Info::new(generation.number());
        Ok(Self {
            generation,
            listeners,
            info,
            tls,
            fault,
        })
    }

    /// Serves, over TLS if that is asked for: what a reference server does once it is set up.
    ///
    /// # Errors
    ///
    /// What the server fails with.
    pub async fn serve(self, flags: &Flags, server: impl Serve) -> anyhow::Result<ExitCode> {
        match self.tls.clone() {
            None => server.serve(flags, self, |listener| listener).await,
            Some(tls) => {
                server
                    .serve(flags, self, move |listener| tls.accept(listener))
                    .await
            }
        }
    }

    /// Becomes ready and says so; then the servers, which `serve` has made, may run.
    ///
    /// # Errors
    ///
    /// If the predecessor does not let this process take over, or standard output is closed.
    pub async fn ready(
        generation: &Generation,
        info: Info,
        sockets: Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        generation.ready().await?;
        io::stdout().write_all(ready_line(info, sockets).as_bytes())?;
        Ok(())
    }

    /// The fault of this process, if it has one that comes after it was ready.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The name and address of each listener.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell an address.
    pub fn sockets(&self) -> io::Result<Vec<(String, String)>> {
        let socket = |listener: &Listener| {
            let address = listener.local_addr()?.to_string();
            Ok((listener.name().to_owned(), address))
        };
        self.listeners.iter().map(socket).collect()
    }
}

/// What serves, on listeners of any kind.
pub trait Serve {
    /// Serves the listeners of `setup`, each of which `accept` makes ready for it.
    fn serve<A: Accept>(
        self,
        flags: &Flags,
        setup: Setup,
        accept: impl Fn(Listener) -> A,
    ) -> impl Future<Output = anyhow::Result<ExitCode>>;
}

/// The certificate and the key in these two files; read anew at SIGWINCH, which nothing else is for.
fn tls(generation: &Generation, files: &[PathBuf]) -> anyhow::Result<Tls> {
    let [certificate, key] = files else {
        bail!("two files: certificate and key");
    };
    let keys = TicketKeys::of(generation)?;
    let tls = Tls::builder(certificate, key).tickets(keys).load()?;
    tls.reload_on(SignalKind::window_change())?;
    Ok(tls)
}

fn policy(flags: &Flags) -> Policy {
    let mut policy = Policy::default();
    if let Some(time) = flags.lame_duck {
        policy = policy.with_lame_duck(time);
    }
    if let Some(time) = flags.deadline {
        policy = policy.with_deadline(time);
    }
    if let Some(time) = flags.upgrade_deadline {
        policy = policy.with_upgrade_deadline(time);
    }
    policy
}

/// Writes the report, one line on standard error; 0 after a complete drain, 3 if something was cut.
pub async fn finish(generation: &Generation, report: &Report) -> ExitCode {
    generation.finished().await;
    eprintln!("{report}");
    match report.is_complete() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(3),
    }
}

/// Runs a reference server, or the bare framework (one of [`bare`](super::bare)) where that is asked
/// for, with a log and as many threads as it is told to have.
///
/// # Errors
///
/// What the server fails with, or if the threads cannot be started.
///
/// # Panics
///
/// On SIGUSR1, as a `main` with a mistake in it would.
pub fn start(
    flags: &Flags,
    run: impl AsyncFnOnce(&Flags) -> anyhow::Result<ExitCode>,
    bare: impl AsyncFnOnce(&Flags) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    log();
    flags.runtime()?.block_on(async {
        let mut panics = signal(SignalKind::user_defined1())?;
        let run = async {
            match flags.no_handover {
                true => bare(flags).await,
                false => run(flags).await,
            }
        };
        tokio::select! {
            ended = run => ended,
            _ = panics.recv() => panic!("SIGUSR1 says so"),
        }
    })
}

/// A log on standard error, as `RUST_LOG` has it, or at `info`.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
