//! How a generation starts.

use std::{
    env,
    ffi::OsString,
    panic,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::{
    Generation,
    older::OlderGenerations,
    shared::{Predecessor, Shared, lock},
};
use crate::{
    Graceful, conductor,
    control::{
        server,
        socket::{self, ControlSocket},
    },
    error::{Error, Kind},
    fault,
    moving::{
        inbound::Adopters,
        outbound::{PATIENCE, Route},
    },
    policy::LONGEST,
    signals::Signals,
    sockets::{foreign, gate::Gate, registry::Registry},
    state::StateReader,
    status::journal::Journal,
    supervise,
    systemd::{self, Manager, pulse},
    testing::Seat,
    upgrade::{
        channel::Channel,
        frame::Message,
        heritage::{self, Heritage},
        relay,
        spawn::{Program, VARIABLE},
    },
};

/// Whether the environment has been read. What it names is taken once in the life of a process:
/// a number is another descriptor later.
static INHERITED: AtomicBool = AtomicBool::new(false);

/// Sets up a [`Generation`]. Made by [`Generation::builder`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover::Error> {
/// use std::time::Duration;
///
/// use handover::{Generation, Graceful, Signals};
///
/// let generation = Generation::builder()
///     .release("2.4.0")
///     .graceful(Graceful::builder().deadline(Duration::from_secs(20)).build())
///     .signals(Signals::new())
///     // An upgrade: what it starts, and how much patience it has.
///     .program("/opt/app/current/app")
///     .args(["--config", "/etc/app.toml"])
///     .check_first(true)
///     .ready_timeout(Duration::from_secs(120))
///     .probation(Duration::from_secs(5))
///     .lazy_adoption(true)
///     .move_timeout(Duration::from_secs(10))
///     .max_draining(8)
///     .fd_store(false)
///     .start()?;
/// assert_eq!(generation.number(), 0);
/// generation.ready().await?;
/// generation.graceful().drain();
/// generation.finished().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct GenerationBuilder {
    graceful: Graceful,
    release: Option<String>,
    pid_file: Option<PathBuf>,
    control: Option<PathBuf>,
    ready_timeout: Duration,
    probation: Duration,
    lazy_adoption: bool,
    move_timeout: Duration,
    check_first: bool,
    max_draining: usize,
    signals: Signals,
    program: Option<OsString>,
    args: Option<Vec<OsString>>,
    fd_store: Option<bool>,
    seat: Option<Arc<Seat>>,
}

impl GenerationBuilder {
    pub(super) fn new() -> Self {
        Self {
            graceful: Graceful::new(),
            release: None,
            pid_file: None,
            control: None,
            ready_timeout: Duration::from_secs(60),
            probation: Duration::from_secs(1),
            lazy_adoption: true,
            move_timeout: PATIENCE,
            check_first: false,
            max_draining: 64,
            signals: Signals::new(),
            program: None,
            args: None,
            fd_store: None,
            seat: None,
        }
    }

    /// For a generation that is not a process, but part of a user's test.
    pub(crate) fn in_test(seat: Arc<Seat>) -> Self {
        Self {
            graceful: seat.graceful(),
            seat: Some(seat),
            ..Self::new()
        }
    }

    /// The token that signals and upgrades drain. A new one by default.
    pub fn graceful(mut self, graceful: Graceful) -> Self {
        self.graceful = graceful;
        self
    }

    /// Which release this is, for who asks where the service stands: a version, a commit.
    ///
    /// ```no_run
    /// let builder = handover::Generation::builder().release(env!("CARGO_PKG_VERSION"));
    /// ```
    pub fn release(mut self, release: impl Into<String>) -> Self {
        self.release = Some(release.into());
        self
    }

    /// Writes the process id to a file, from [`Generation::ready`] on. A relative path is taken from
    /// the directory in which the process was started.
    ///
    /// The file has mode 0644, is replaced in one step, locked while the process lives, and removed
    /// by the last generation. Under `handover run` it is left to that one, whose process id stays.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use handover::Generation;
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("app.pid");
    /// let generation = Generation::builder().pid_file(&path).start()?;
    /// generation.ready().await?;
    /// let pid = std::process::id();
    /// assert_eq!(std::fs::read_to_string(&path)?, format!("{pid}\n"));
    ///
    /// generation.graceful().drain();
    /// generation.finished().await;
    /// assert!(!path.exists());
    /// # Ok(())
    /// # }
    /// ```
    pub fn pid_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.pid_file = Some(path.into());
        self
    }

    /// Opens a [control socket](crate::control): it asks where this service stands, and for an
    /// upgrade, a drain or a cut. A relative path is taken from the directory in which the process
    /// was started.
    ///
    /// The file has mode 0600, stays the same over upgrades, and is removed by the last generation.
    /// Only the user of this process and root may connect. Under `handover run` it is left to that
    /// one, which answers the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use handover::{Generation, control::{Event, Request}};
    /// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::UnixStream};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("app.control");
    /// let generation = Generation::builder().control(&path).start()?;
    /// generation.ready().await?;
    ///
    /// let mut caller = UnixStream::connect(&path).await?;
    /// caller.write_all(Request::Status.to_line().as_bytes()).await?;
    /// let mut line = String::new();
    /// caller.read_to_string(&mut line).await?;
    /// let Event::Status { status, .. } = Event::from_line(&line)? else { panic!("{line}") };
    /// assert_eq!(status.pid, std::process::id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn control(mut self, path: impl Into<PathBuf>) -> Self {
        self.control = Some(path.into());
        self
    }

    /// How long a successor may take until it is ready; then it is killed. 60 seconds by default, and
    /// at most a year.
    pub fn ready_timeout(mut self, time: Duration) -> Self {
        self.ready_timeout = time.min(LONGEST);
        self
    }

    /// How long, at least, this process stays behind a successor, to take over again should it die.
    /// One second by default, in which most of what fails at its first requests has failed; zero is
    /// as long as the drain takes anyhow, which may be no time at all.
    ///
    /// It holds the drain open, and so ends at the drain's deadline at the latest.
    pub fn probation(mut self, time: Duration) -> Self {
        self.probation = time.min(LONGEST);
        self
    }

    /// Whether connections on which nothing comes stay this process's own during the
    /// [probation](Self::probation). True by default.
    ///
    /// The successor has them, and takes each over when its client sends something; all others when
    /// the probation ends. So a successor that dies before that takes no idle connection with it:
    /// this process serves them again. Meanwhile each costs a descriptor in both processes, and its
    /// idle time limit starts anew when it is taken over.
    ///
    /// It is for connections of HTTP/1.1 that wait for a request. A WebSocket, or another
    /// [`Movable`](crate::accept::Movable), is taken over at once: there the server has something to
    /// say, too, and nobody could while it is held.
    ///
    /// If false, or without a probation, the successor takes over at once whatever it is given.
    pub fn lazy_adoption(mut self, lazy: bool) -> Self {
        self.lazy_adoption = lazy;
        self
    }

    /// For how long a successor may leave a connection that it is given without an answer; then it
    /// is killed, and this process serves again. 10 seconds by default.
    ///
    /// Nobody serves the connection meanwhile: it cannot be taken back from a process that may
    /// still take it.
    pub fn move_timeout(mut self, time: Duration) -> Self {
        self.move_timeout = time.min(LONGEST);
        self
    }

    /// Tries the program before each upgrade, as [`Generation::check`] does: an upgrade whose check
    /// fails has failed. It costs one start of the program more. False by default.
    pub fn check_first(mut self, check: bool) -> Self {
        self.check_first = check;
        self
    }

    /// How many generations may drain at once, behind the one that serves. 64 by default, and at
    /// least 1.
    ///
    /// Upgrades may follow each other faster than drains end: long requests hold each old process
    /// open until its deadline. An upgrade that makes them more than this many is not refused; the
    /// oldest generation is cut, as at its deadline. So this bounds the memory that old processes
    /// take, and a low bound costs requests that take longer than so many upgrades.
    pub fn max_draining(mut self, generations: usize) -> Self {
        self.max_draining = generations.max(1);
        self
    }

    /// What signals do.
    pub fn signals(mut self, signals: Signals) -> Self {
        self.signals = signals;
        self
    }

    /// Leaves all signals alone. [`Generation::upgrade`] and the token do what is to be done.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::Error> {
    /// use handover::Generation;
    ///
    /// // In a program that handles signals itself.
    /// let generation = Generation::builder().no_signals().start()?;
    /// let graceful = generation.graceful();
    /// tokio::spawn(async move {
    ///     if tokio::signal::ctrl_c().await.is_ok() {
    ///         graceful.drain();
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn no_signals(mut self) -> Self {
        self.signals = Signals::none();
        self
    }

    /// The program of the next generation: a path, from the directory in which this process was
    /// started, or a bare name that is looked up in `PATH`. By default what this process was called
    /// as, looked up again.
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// The arguments of the next generation. By default those of this process.
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.args = Some(args.into_iter().map(Into::into).collect());
        self
    }

    /// Whether the service manager keeps the sockets that this service opens (systemd's fd store).
    /// By default it does if it says that it has room for them.
    ///
    /// What it keeps survives a crash: connections that the kernel had queued, and those that come
    /// before the manager has started the service again, are served then. The room is what the unit
    /// gives by `FileDescriptorStoreMax=`, so the administrator has the say, and a unit without it
    /// is as it always was. Systemd tells the room since version 254 only; for an older one say
    /// `true`, which lets the sockets be sent at a venture.
    ///
    /// A service that is told to stop takes its sockets out first, so that clients are refused and
    /// do not queue where nobody comes. A socket of a socket unit is systemd's own and not stored.
    pub fn fd_store(mut self, keep: bool) -> Self {
        self.fd_store = Some(keep);
        self
    }

    /// Starts the generation.
    ///
    /// Handles signals first, so that none goes amiss, then takes what a predecessor left, or else
    /// what systemd, einhorn or Server::Starter did. In a successor this waits, without yielding,
    /// for what the predecessor sends, which it does at once.
    ///
    /// The environment is read by the first start in a process only: a second generation in the
    /// same process inherits nothing.
    ///
    /// # Errors
    ///
    /// If there is no tokio runtime, a signal cannot be handled, or what the environment names is
    /// not there or not what it should be.
    ///
    /// # Panics
    ///
    /// If the runtime has no IO or no timer (`enable_all` gives it both).
    pub fn start(mut self) -> Result<Generation, Error> {
        if Handle::try_current().is_err() {
            let message = "a generation needs a tokio runtime; start it inside one \
                           (#[tokio::main], or Runtime::enter)";
            return Err(Error::new(Kind::NoRuntime, message));
        }
        if self.seat.is_some() {
            // These are the process's, and so the test's.
            (self.signals, self.pid_file) = (Signals::none(), None);
        }
        let upgrade_signal = self.signals.upgrade_signal();
        let signals = self.signals.install()?;
        let mut program = Program::of_this_process().map_err(|err| {
            Error::io(Kind::Spawn, "cannot tell how this process was started", err)
        })?;
        if let Some(name) = self.program {
            program.name = name;
        }
        if let Some(args) = self.args {
            program.args = args;
        }
        let mut registry = Registry::new(self.graceful.clone(), self.probation);
        let heritage = match &self.seat {
            Some(seat) => seat.take_channel().map(heritage::of).transpose()?,
            None => inherit(&mut registry)?,
        };
        program.supervised = match &heritage {
            Some(heritage) if heritage.supervised => true,
            _ => self.seat.is_none() && supervise::is_supervised(),
        };
        if program.supervised {
            // It may start another process of its own beside this one, and only one can have them.
            let (pid_file, control) = (self.pid_file.take(), self.control.take());
            if pid_file.is_some() || control.is_some() {
                tracing::info!("the pid file and the control socket are left to the supervisor");
            }
        }
        let pid_path = self.pid_file.map(|path| program.dir.join(path));
        let check = heritage.as_ref().is_some_and(|heritage| heritage.check);
        if check {
            registry.only_prove();
        }
        let main = heritage.is_none();
        let number = heritage.as_ref().map_or(0, |left| left.generation);
        let manager = Arc::new(match &self.seat {
            // It is told of the process, and so of the test.
            Some(_) => Manager::absent(number),
            // A check says nothing of the service, which runs.
            None if check => Manager::absent(number),
            None => {
                let manager = Manager::new(number, main, self.fd_store);
                match program.supervised {
                    true => manager.of_supervisor(upgrade_signal),
                    false => manager,
                }
            }
        });
        let mut unused_control = None;
        let heritage = heritage.map(|mut heritage| {
            unused_control = ControlSocket::claim(&mut heritage.sockets);
            // A system call for each: only where there is somebody who might.
            if manager.keeps() {
                registry.note_stored(&heritage.sockets);
            }
            registry.inherit(std::mem::take(&mut heritage.sockets));
            heritage
        });
        let control_path = self.control.map(|path| program.dir.join(path));
        let control = match &control_path {
            Some(path) if check => {
                socket::prove(path)?;
                None
            }
            Some(path) => Some(ControlSocket::obtain(&mut unused_control, path)?),
            None => None,
        };
        let inherited = registry.inherited();
        let mut older = OlderGenerations::default();
        let (mut left, left_streams, predecessor) = match heritage {
            Some(heritage) => {
                let failed = |err| {
                    Error::io(
                        Kind::Channel,
                        "cannot watch the channel to the predecessor",
                        err,
                    )
                };
                let predecessor = Predecessor {
                    pid: heritage.predecessor,
                    channel: Arc::new(Channel::new(heritage.channel).map_err(failed)?),
                    stderr: Mutex::new(heritage.stderr),
                };
                let streams = heritage.streams.into_iter();
                let streams = streams
                    .map(|(name, (version, fd))| Ok((name, StateReader::new(version, fd)?)))
                    .collect::<Result<_, _>>()
                    .map_err(failed)?;
                older = OlderGenerations::new(heritage.older).map_err(failed)?;
                (heritage.states, streams, Some(predecessor))
            }
            None => (Default::default(), Default::default(), None),
        };
        let journal = Arc::new(Journal::after(&mut left));
        if manager.watches() {
            // It names us. Whoever is left without it is meant, and who is heard is the main process.
            program.without = Some(systemd::WATCHDOG_PID);
            tokio::spawn(pulse::live(Arc::clone(&manager)));
        }
        let (requests, received) = mpsc::unbounded_channel();
        signals.listen(&requests, &self.graceful);
        let alone = AtomicBool::new(predecessor.is_none());
        let shared = Arc::new(Shared {
            route: Route::new(
                self.graceful.clone(),
                self.move_timeout,
                self.lazy_adoption && self.probation > Duration::ZERO,
            ),
            adopters: Adopters::default(),
            graceful: self.graceful,
            check,
            check_first: self.check_first,
            max_draining: self.max_draining,
            release: self.release,
            older,
            number,
            program,
            seat: self.seat,
            pid_path,
            ready_timeout: self.ready_timeout,
            probation: self.probation,
            gate: Gate::default(),
            control_gate: Gate::default(),
            control,
            unused_control: Mutex::new(unused_control.and_then(ControlSocket::into_path)),
            journal,
            registry: Mutex::new(registry),
            providers: Default::default(),
            failure_hooks: Default::default(),
            left: Mutex::new(left),
            left_streams: Mutex::new(left_streams),
            predecessor,
            pid_file: Mutex::new(None),
            ready: AtomicBool::new(false),
            becoming_ready: tokio::sync::Mutex::new(()),
            handed_over: AtomicBool::new(false),
            alone,
            panic: Mutex::new(None),
            requests,
            finished: watch::Sender::new(false),
            manager,
        });
        shared.graceful.drain_ref().is_of_generation(number);
        let predecessor = shared
            .predecessor
            .as_ref()
            .map(|predecessor| predecessor.pid);
        let pid = std::process::id();
        tracing::info!(generation = number, pid, inherited, predecessor, "started");
        match &shared.seat {
            Some(seat) => seat.started(&shared),
            None if predecessor.is_some() => remember_panics(&shared),
            None => {}
        }
        shared.journal.keep(&mut lock(&shared.providers));
        answer_control(&shared)?;
        tokio::spawn(conductor::run(Arc::clone(&shared), received));
        Ok(Generation::new(shared))
    }
}

/// Listens at the control socket, if there is one. A successor leaves it to its predecessor until
/// it serves.
fn answer_control(shared: &Arc<Shared>) -> Result<(), Error> {
    let Some(control) = &shared.control else {
        return Ok(());
    };
    let listener = control.listener().map_err(|err| {
        let message = "cannot listen at the control socket";
        Error::io(Kind::Control, message, err)
    })?;
    if shared.predecessor.is_none() {
        shared.control_gate.open();
    }
    tokio::spawn(server::serve(
        listener,
        shared.control_gate.pass(),
        Arc::downgrade(shared),
        shared.finished.subscribe(),
    ));
    Ok(())
}

/// Takes what this process was started with.
fn inherit(registry: &mut Registry) -> Result<Option<Heritage>, Error> {
    if INHERITED.swap(true, Ordering::AcqRel) {
        return Ok(None);
    }
    let stderr = env::var_os(relay::VARIABLE).and_then(|value| relay::inherited(&value));
    let heritage = match env::var_os(VARIABLE) {
        Some(value) => {
            fault::reached("started");
            heritage::receive(&value)?
        }
        None => None,
    };
    match heritage {
        // The variables of other dialects were for the first generation: what they name came to us
        // over the channel.
        Some(mut heritage) => {
            // It may have died before it had sent them.
            heritage.stderr = heritage.stderr.take().or(stderr);
            // Then nobody reads the pipe: not even why this process fails, should it.
            if heritage.orphaned
                && let Some((real, read)) = heritage.stderr.take()
            {
                relay::give_up(&real, read);
            }
            Ok(Some(heritage))
        }
        None => {
            if let Some((real, read)) = stderr {
                relay::give_up(&real, read);
            }
            let parent = std::os::unix::process::parent_id();
            let found = foreign::parse(|name| env::var_os(name), std::process::id(), parent)?;
            let adopted = foreign::adopt(found)?;
            registry.ledger.extend(adopted.useless);
            registry.note_stored(&adopted.sockets);
            registry.inherit(adopted.sockets);
            Ok(None)
        }
    }
}

/// Tells the predecessor, if any, that we end before we were ready.
pub(super) fn abandon(shared: &Shared) {
    if shared.is_ready() {
        return;
    }
    let message = match lock(&shared.panic).take() {
        Some(panic) => format!("it {panic}"),
        None => "it ended before it was ready".to_owned(),
    };
    shared.tell_predecessor(&Message::Failed { message });
}

/// Keeps the first panic of a starting successor, for its predecessor: who asked for the upgrade
/// is to learn of it, and not only who reads standard error. The hook that is there is run as well.
fn remember_panics(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    let next = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if let Some(shared) = shared.upgrade().filter(|shared| !shared.is_ready()) {
            // `try_lock`: a hook must not wait for the thread that it interrupts.
            if let Ok(mut panic) = shared.panic.try_lock() {
                panic.get_or_insert_with(|| info.to_string());
            }
        }
        next(info);
    }));
}
