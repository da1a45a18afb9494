//! One process of a service.

mod builder;
mod files;
pub(crate) mod older;
mod ready;
pub(crate) mod shared;
mod sockets;

use std::{fmt, future::Future, io, path::Path, sync::Arc};

use tokio::sync::oneshot;

pub use self::builder::GenerationBuilder;
use self::shared::{Shared, lock};
use crate::{
    Graceful,
    conductor::Request,
    control::UpgradeRequest,
    error::{Error, Kind},
    fault,
    health::Health,
    state::{Provider, State, StateReader},
    status::Status,
    text::shortened,
    upgrade::{Checked, Successor, check, frame::Message},
};

/// The longest text of a progress report, in bytes.
const PROGRESS: usize = 1024;

/// One process of a service: it has what its predecessor left, and hands over to its successor.
///
/// Generations are numbered from 0. A signal, or [`upgrade`](Self::upgrade), starts the program
/// again; the new process gets the sockets and whatever [state](Self::keep_state) there is, starts
/// up while this one serves, and says that it is [`ready`](Self::ready). Only then does this one
/// stop accepting, and drains. If the successor fails before that, nothing has happened here; if it
/// dies later, while this process still drains, this process accepts again.
///
/// All clones are handles to one generation. What a successor prints to standard error before it is
/// ready goes through its predecessor, which shows its end if the successor fails; unless standard
/// error is a terminal.
///
/// # What is handed over
///
/// | | opened or kept by | found by the successor |
/// |---|---|---|
/// | TCP and Unix stream listeners | [`listen`](Self::listen) | by name, then by address |
/// | Unix seqpacket listeners | [`listen_seqpacket`](Self::listen_seqpacket) | the same |
/// | UDP sockets | [`bind_udp`](Self::bind_udp) | the same |
/// | Unix datagram sockets | [`bind_unix_datagram`](Self::bind_unix_datagram) | the same |
/// | any file: logs, pipes, memfds | [`keep_file`](Self::keep_file) | [`take_file`](Self::take_file) |
/// | connected streams | [`keep_connection`](Self::keep_connection) | [`take_connection`](Self::take_connection) |
/// | anything in memory | [`keep_state`](Self::keep_state) | [`take_state`](Self::take_state) |
///
/// What the successor does not ask for is closed when it is ready.
///
/// # The end
///
/// The last generation removes its pid file and the files of its Unix sockets. That is done when
/// its drain is over, and at the latest when the runtime is dropped, so a `main` that returns has
/// nothing to wait for. One that calls [`std::process::exit`] awaits [`finished`](Self::finished)
/// first.
///
/// # Examples
///
/// ```no_run
/// use handover::Generation;
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let generation = Generation::builder().pid_file("app.pid").start()?;
///     let mut listener = generation.listen("127.0.0.1:8080").await?;
///     let graceful = generation.graceful();
///     tokio::spawn(async move {
///         while let Ok((_stream, peer)) = listener.accept().await {
///             println!("a connection from {peer}");
///         }
///     });
///     generation.ready().await?;
///     graceful.drained().await;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Generation {
    handle: Arc<Handle>,
}

// The last of these to go, before the generation is ready, is the end of an attempt to start.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        builder::abandon(&self.0);
    }
}

impl Generation {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            handle: Arc::new(Handle(shared)),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }

    /// Starts this generation, with the defaults of [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As for [`GenerationBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Sets a generation up step by step.
    pub fn builder() -> GenerationBuilder {
        GenerationBuilder::new()
    }

    /// The token that signals and upgrades drain.
    #[must_use]
    pub fn graceful(&self) -> Graceful {
        self.shared().graceful.clone()
    }

    /// How many generations were before this one.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.shared().number
    }

    /// Returns true if a predecessor handed over to this process.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::Error> {
    /// let generation = handover::Generation::start()?;
    /// if generation.is_successor() {
    ///     println!("generation {} goes on", generation.number());
    /// }
    /// # assert!(!generation.is_successor());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_successor(&self) -> bool {
        self.shared().predecessor.is_some() && !self.is_check()
    }

    /// The pid file, with its whole path.
    #[must_use]
    pub fn pid_file(&self) -> Option<&Path> {
        self.shared().pid_path.as_deref()
    }

    /// Returns true if this process is a [check](crate::Check): it is to show that it could start,
    /// and then to end. [`ready`](Self::ready) fails.
    ///
    /// For what a program does before it is ready and a check should leave alone: migrating a
    /// database, say.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn migrate() {}
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::Error> {
    /// let generation = handover::Generation::start()?;
    /// if !generation.is_check() {
    ///     migrate().await;
    /// }
    /// generation.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_check(&self) -> bool {
        self.shared().check
    }

    /// Tries whether the program of the next generation can start. Nothing else happens: no socket
    /// and no state goes to it, and this process serves on. See [`Check`](crate::Check).
    ///
    /// # Errors
    ///
    /// If the program cannot be started, ends, says that it cannot, or is not ready in time.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the program that is tried is killed.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example(generation: handover::Generation) {
    /// match generation.check().await {
    ///     Ok(checked) => println!("it would listen on {} sockets", checked.sockets.len()),
    ///     Err(error) => println!("do not upgrade to that: {error}"),
    /// }
    /// # }
    /// ```
    pub async fn check(&self) -> Result<Checked, Error> {
        check::run(self.shared().inquiry(None)?).await
    }

    /// Tells who waits for this process to be ready what it does, for people. Best effort.
    ///
    /// That is the predecessor, or in a first generation the service manager, which so gives the
    /// start another twelve seconds from now if it would have ended it before.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::Error> {
    /// let generation = handover::Generation::start()?;
    /// for percent in (0..100).step_by(10) {
    ///     generation.progress(format!("warming the cache: {percent} %"));
    ///     // … a tenth of it
    /// }
    /// assert_eq!(generation.status().progress.as_deref(), Some("warming the cache: 90 %"));
    /// generation.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn progress(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::info!(progress = %text, "starting");
        if !self.shared().is_ready() {
            self.shared().journal.progress(&text);
            let text = shortened(&text, PROGRESS);
            match self.shared().predecessor {
                Some(_) => self.shared().tell_predecessor(&Message::Progress {
                    text: text.to_owned(),
                }),
                None => self.shared().manager.starting(text),
            }
            fault::reached("progress-sent");
        }
    }

    /// Keeps something for the successor: at each upgrade `provider` is asked for it, in a thread
    /// that may block. A second provider of a name takes the place of the first. If it fails, the
    /// upgrade fails, and this process serves on.
    ///
    /// The bytes are read by another release of the program, newer or older. `version` tells it
    /// what to expect, and is the program's to choose.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example(generation: &handover::Generation) -> Result<(), std::string::FromUtf8Error> {
    /// let motto = match generation.take_state("motto") {
    ///     Some(state) if state.version() == 1 => String::from_utf8(state.into_bytes())?,
    ///     // The first generation, or the successor of one that knew another form.
    ///     _ => "festina lente".to_owned(),
    /// };
    /// generation.keep_state("motto", 1, move || Ok(motto.clone().into_bytes()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_state<F>(&self, name: impl Into<String>, version: u32, provider: F)
    where
        F: Fn() -> io::Result<Vec<u8>> + Send + Sync + 'static,
    {
        let provider = Provider::Blob(Arc::new(provider));
        lock(&self.shared().providers).insert(name.into(), (version, provider));
    }

    /// Keeps something for the successor that is too large to be held in memory twice: at each
    /// upgrade `provider` writes it, in a thread of its own, while the successor reads.
    ///
    /// It shares its names with [`keep_state`](Self::keep_state). If it fails, the successor's
    /// [reader](StateReader) does, with the same words.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::{Arc, Mutex};
    ///
    /// use handover::Generation;
    /// use tokio::io::{AsyncBufReadExt, BufReader};
    ///
    /// let generation = Generation::start()?;
    /// let mut entries = Vec::new();
    /// if let Some(kept) = generation.take_state_stream("entries") {
    ///     assert_eq!(kept.version(), 1);
    ///     let mut lines = BufReader::new(kept).lines();
    ///     while let Some(line) = lines.next_line().await? {
    ///         entries.push(line);
    ///     }
    /// }
    /// let entries = Arc::new(Mutex::new(entries));
    /// generation.keep_state_stream("entries", 1, move |out| {
    ///     let entries = entries.lock().map_err(|_| std::io::Error::other("poisoned"))?;
    ///     entries.iter().try_for_each(|entry| writeln!(out, "{entry}"))
    /// });
    /// generation.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_state_stream<F>(&self, name: impl Into<String>, version: u32, provider: F)
    where
        F: Fn(&mut dyn io::Write) -> io::Result<()> + Send + Sync + 'static,
    {
        let provider = Provider::Stream(Arc::new(provider));
        lock(&self.shared().providers).insert(name.into(), (version, provider));
    }

    /// Takes what the predecessor kept under this name; once.
    #[must_use]
    pub fn take_state(&self, name: &str) -> Option<State> {
        lock(&self.shared().left).remove(name)
    }

    /// Takes what the predecessor writes under this name; once, and before this process is
    /// [`ready`](Self::ready), when streams that nobody has taken are closed.
    #[must_use]
    pub fn take_state_stream(&self, name: &str) -> Option<StateReader> {
        lock(&self.shared().left_streams).remove(name)
    }

    /// Calls `hook` whenever an upgrade of this process has failed, with the reason, in a thread that
    /// may block: the place to undo what was prepared for the successor. The next upgrade begins
    /// when the hook has ended.
    ///
    /// That an upgrade was refused (one is under way, this process drains) is no failure. That the
    /// successor died after it served, while this process was still there to serve again, is one.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::Error> {
    /// let generation = handover::Generation::start()?;
    /// generation.on_upgrade_failed(|error| {
    ///     // Takes back what was prepared for it: the writes that were paused, say.
    ///     eprintln!("serving on: {error}");
    /// });
    /// generation.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_upgrade_failed<F>(&self, hook: F)
    where
        F: Fn(&Error) + Send + Sync + 'static,
    {
        lock(&self.shared().failure_hooks).push(Arc::new(hook));
    }

    /// Takes over: this process serves, and its predecessor, if there is one, drains.
    ///
    /// Listeners accept from here on, the pid file names this process, and inherited sockets that
    /// were not asked for are closed. If the predecessor has died meanwhile, that is no error: this
    /// process carries on alone. A second call does nothing.
    ///
    /// # Errors
    ///
    /// If the pid file cannot be written or belongs to another living process, or if this process
    /// was told to stop before its predecessor let it take over. The predecessor serves on. In a
    /// [check](Self::is_check) always, with an error of its own kind.
    ///
    /// # Cancel safety
    ///
    /// Once begun it goes on, even if the future is dropped.
    pub async fn ready(&self) -> Result<(), Error> {
        let shared = Arc::clone(self.shared());
        match tokio::spawn(ready::become_ready(shared)).await {
            Ok(result) => result,
            // The runtime is being shut down.
            Err(err) => Err(Error::io(
                Kind::NotReady,
                "the runtime ends",
                std::io::Error::other(err),
            )),
        }
    }

    /// Where this generation stands, and what holds its drain open.
    ///
    /// It looks at every connection and request: ask about once a second, not at each request.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(self.shared())
    }

    /// What probes are answered with: it has started once it is [`ready`](Self::ready).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::Error> {
    /// use handover::{Generation, health::Probe};
    ///
    /// let generation = Generation::start()?;
    /// let health = generation.health();
    /// assert!(health.check(Probe::Startup).is_err());
    /// generation.ready().await?;
    /// assert!(health.check(Probe::Startup).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        let shared = Arc::downgrade(self.shared());
        let started = move || shared.upgrade().is_some_and(|shared| shared.is_ready());
        Health::new(self.graceful()).started_when(started)
    }

    /// Starts a successor and waits until it serves. Then this process drains.
    ///
    /// # Errors
    ///
    /// If an upgrade is under way already, this process is not ready or drains, or the successor
    /// could not be started, failed, or was not ready in time. In each case this process serves on
    /// as before.
    ///
    /// # Cancel safety
    ///
    /// Once begun the upgrade goes on, even if the future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example(generation: handover::Generation) -> Result<(), handover::Error> {
    /// let successor = generation.upgrade().await?;
    /// println!("process {} serves as generation {}", successor.pid(), successor.generation());
    /// let report = generation.graceful().drained().await;
    /// println!("{report}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn upgrade(&self) -> Result<Successor, Error> {
        upgrade(self.shared()).await
    }

    /// Ends when the drain is over and what is to be removed has been removed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::Error> {
    /// let generation = handover::Generation::start()?;
    /// generation.ready().await?;
    /// generation.graceful().drain();
    /// generation.finished().await;
    /// std::process::exit(0);
    /// # }
    /// ```
    pub fn finished(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut finished = self.shared().finished.subscribe();
        async move {
            // An error means that nobody is left who could change it.
            let _ = finished.wait_for(|finished| *finished).await;
        }
    }
}

/// Asks for an upgrade, and waits for its outcome.
pub(crate) async fn upgrade(shared: &Shared) -> Result<Successor, Error> {
    let ended = |_| Error::new(Kind::Draining, "this process has drained");
    let (reply, answer) = oneshot::channel();
    let request = UpgradeRequest::default();
    let sent = shared.requests.send(Request::Upgrade { request, reply });
    sent.map_err(|_| ended(()))?;
    answer.await.map_err(|_| ended(()))?
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared();
        f.debug_struct("Generation")
            .field("number", &shared.number)
            .field(
                "predecessor",
                &shared
                    .predecessor
                    .as_ref()
                    .map(|predecessor| predecessor.pid),
            )
            .field("ready", &shared.is_ready())
            .finish_non_exhaustive()
    }
}
