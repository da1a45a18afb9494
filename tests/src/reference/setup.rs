//! What the reference servers do before and after they serve, whatever they serve with.

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, bail, ensure};
use handover::{
    Accept as _, Address, Generation, Graceful, Listener, Policy, Report,
    accept::{ProxyPolicy, ProxyProtocol},
};
use handover_tls::{TicketKeys, Tls};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use super::{Fault, Flags, Info, ready_line};

/// What the reference servers serve on.
pub type Socket = ProxyProtocol<Listener>;

/// The name of the listener of `--admin`.
const ADMIN: &str = "admin";
/// The name of what `--keep-state` keeps.
const STATE: &str = "reference";

/// A generation that has been started after its flags, with all its listeners.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setup {
    /// The generation.
    pub generation: Generation,
    /// A listener for each `--listen`.
    pub listeners: Vec<Socket>,
    /// Who answers.
    pub info: Info,
    tls: Option<Tls>,
    fault: Option<Fault>,
    admin: Option<Address>,
}

impl Setup {
    /// Starts the generation, opens its listeners, and initialises for as long as it is told to.
    ///
    /// # Errors
    ///
    /// If an address cannot be listened on, or what was inherited cannot be used.
    pub async fn start(flags: &Flags) -> anyhow::Result<Self> {
        let mut builder = Generation::builder()
            .graceful(Graceful::with_policy(policy(flags)))
            .release(env!("CARGO_PKG_VERSION"));
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
        let tls = flags.tls.as_deref().map(|files| {
            let keys = match flags.own_ticket_keys {
                true => TicketKeys::new(),
                false => TicketKeys::of(&generation),
            };
            tls(files, keys?)
        });
        let tls = tls.transpose().context("--tls")?;
        let mut listeners = Vec::new();
        for listen in &flags.listen {
            let listener = generation.listen(listen.to_string()).await?;
            let listener = ProxyProtocol::new(listener, &generation.graceful());
            listeners.push(listener.policy(match flags.proxy_protocol {
                true => ProxyPolicy::Require,
                false => ProxyPolicy::Off,
            }));
        }
        let admin = match &flags.admin {
            Some(address) => Some(admin(&generation, address, flags.admin_token.as_deref()).await?),
            None => None,
        };
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
            admin,
        })
    }

    /// What its listeners are to speak.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// Serves each listener by one server of Handover's, which `server` makes, until the drain is
    /// over, as [`serve_with`](Self::serve_with).
    ///
    /// # Errors
    ///
    /// As for [`serve_with`](Self::serve_with), or if there is no listener.
    pub async fn serve<S>(
        self,
        server: impl Fn(Socket, Graceful, Info) -> S,
    ) -> anyhow::Result<ExitCode>
    where
        S: IntoFuture<Output = io::Result<Report>>,
        S::IntoFuture: Send + 'static,
    {
        self.serve_with(async |listeners, graceful, info| {
            let servers: Vec<_> = listeners
                .into_iter()
                .map(|listener| server(listener, graceful.clone(), info))
                .collect();
            Ok(async { last(servers).await?.context("nothing to listen on") })
        })
        .await
    }

    /// Serves each listener by one server of a framework, which `server` makes of what `incoming`
    /// has made of the listener, until the drain is over, as [`serve_with`](Self::serve_with).
    ///
    /// # Errors
    ///
    /// As for [`serve_with`](Self::serve_with).
    pub async fn serve_foreign<I, S, T, E>(
        self,
        incoming: impl Fn(Socket, &Graceful) -> I,
        server: impl Fn(I, Graceful, Info) -> S,
    ) -> anyhow::Result<ExitCode>
    where
        S: IntoFuture<Output = Result<T, E>>,
        S::IntoFuture: Send + 'static,
        T: Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        self.serve_with(async |listeners, graceful, info| {
            let all: Vec<_> = listeners
                .into_iter()
                .map(|listener| incoming(listener, &graceful))
                .collect();
            Ok(async move {
                let servers = all.into_iter();
                let servers = servers.map(|incoming| server(incoming, graceful.clone(), info));
                last(servers).await?;
                anyhow::Ok(graceful.drained().await)
            })
        })
        .await
    }

    /// Has `start` make the server of all listeners, before this process is ready, so that a drain
    /// waits for it from the first moment; becomes ready and says so; runs the server, does what
    /// the flags say of the time after, and ends with the report.
    ///
    /// # Errors
    ///
    /// If the predecessor does not let this process take over, standard output is closed, or the
    /// server fails.
    pub async fn serve_with<F, E>(
        self,
        start: impl AsyncFnOnce(Vec<Socket>, Graceful, Info) -> anyhow::Result<F>,
    ) -> anyhow::Result<ExitCode>
    where
        F: IntoFuture<Output = Result<Report, E>>,
        E: Into<anyhow::Error>,
    {
        let sockets = self.sockets()?;
        let Self {
            generation,
            listeners,
            info,
            fault,
            ..
        } = self;
        let server = start(listeners, generation.graceful(), info).await?;
        generation.ready().await?;
        io::stdout().write_all(ready_line(info, sockets).as_bytes())?;
        if let Some(fault) = fault {
            fault.after_ready().await;
        }
        let report = server.await.map_err(Into::into)?;
        Ok(finish(&generation, &report).await)
    }

    /// The name and address of each listener.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell an address.
    fn sockets(&self) -> io::Result<Vec<(String, String)>> {
        let socket = |listener: &Socket| {
            let address = listener.local_addr()?.to_string();
            let name = listener.get_ref().map_or("", Listener::name);
            Ok((name.to_owned(), address))
        };
        let admin = self.admin.iter();
        let admin = admin.map(|address| Ok((ADMIN.to_owned(), address.to_string())));
        self.listeners.iter().map(socket).chain(admin).collect()
    }
}

/// Serves the admin surface until the end, as a program of a user's would.
async fn admin(
    generation: &Generation,
    address: &str,
    token: Option<&str>,
) -> anyhow::Result<Address> {
    let listener = generation.listen(format!("{ADMIN}={address}")).await?;
    let address = listener.local_addr()?;
    let recorder = PrometheusBuilder::new().install_recorder()?;
    handover_admin::metrics::describe();
    let admin = handover_admin::serve(listener, generation).with_metrics(move || recorder.render());
    let admin = match token {
        Some(token) => admin.with_token(token),
        None => admin,
    };
    tokio::spawn(admin.into_future());
    Ok(address)
}

/// Serves over TLS where that is asked for: `$serve` is an expression in which `$accept` is a function
/// that makes a [`Socket`] ready for a server, whose type depends on it.
#[macro_export]
macro_rules! over_tls {
    ($setup:ident, |$accept:ident| $serve:expr) => {
        match $setup.tls() {
            None => {
                let $accept = ::std::convert::identity::<$crate::reference::Socket>;
                $serve
            }
            Some(tls) => {
                let $accept = |listener: $crate::reference::Socket| tls.accept(listener);
                $serve
            }
        }
    };
}

/// The certificate and the key in these two files; read anew at SIGWINCH, which nothing else is for.
fn tls(files: &[PathBuf], keys: TicketKeys) -> anyhow::Result<Tls> {
    let [certificate, key] = files else {
        bail!("two files: certificate and key");
    };
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
    if let Some(time) = flags.close_spread {
        policy = policy.with_close_spread(time);
    }
    policy
}

/// Runs these to their ends, and returns what the last to end has made.
async fn last<S, T, E>(servers: impl IntoIterator<Item = S>) -> Result<Option<T>, anyhow::Error>
where
    S: IntoFuture<Output = Result<T, E>>,
    S::IntoFuture: Send + 'static,
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
{
    let servers = servers.into_iter().map(IntoFuture::into_future);
    let mut servers: JoinSet<_> = servers.collect();
    let mut last = None;
    while let Some(served) = servers.join_next().await {
        last = Some(served??);
    }
    Ok(last)
}

/// 0 after a complete drain, 3 if something was cut. What it came to is in the log.
async fn finish(generation: &Generation, report: &Report) -> ExitCode {
    generation.finished().await;
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
