//! A service that is upgraded, fails, and is started again.

use std::{
    fs,
    net::TcpListener,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::ensure;
use tempfile::TempDir;
use tokio::time::sleep;

use super::{event::Event, row::Row};
use crate::{
    faults::{self, Action, Left, Lost, Point, go_on, is_stopped, outcome, plant},
    harness::{Exit, Process, Program, Ready, Server, Signal, seen},
    load::Target,
};

/// For what must happen and has no time of its own: long, since a busy machine may take half a minute to
/// start a process, when others write to its disk.
pub(super) const BOUND: Duration = Duration::from_secs(120);
/// For how long a process is stopped that goes on afterwards.
const STOPPED: Duration = Duration::from_millis(100);
/// How often a service is looked at that is to settle. A look goes through all processes of the machine.
const SETTLES: Duration = Duration::from_millis(100);
/// Hands on the socket that is its standard input, as systemd does.
const ACTIVATE: &str = r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3<&0 </dev/null"#;

/// A running service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) row: Row,
    program: PathBuf,
    /// The socket, where it is kept.
    kept: Option<TcpListener>,
    now: Mutex<Now>,
    /// What a generation with a predecessor has open that is no socket; 0 if that is not known.
    pub(super) open_at_rest: AtomicUsize,
    directory: TempDir,
}

#[derive(Clone, Debug)]
struct Now {
    server: Arc<Server>,
    serving: Ready,
    /// What servers wrote that have gone.
    log: Vec<String>,
}

/// Waits for a condition that is dear to look at.
pub(super) async fn settles<T>(
    what: &str,
    condition: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    seen(what, BOUND, SETTLES, condition).await
}

/// What an event may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    Nothing,
    /// What was inside of a process that was killed.
    Inside,
}

impl Service {
    pub(super) async fn start(
        row: Row,
        program: PathBuf,
        keep_socket: bool,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::create_dir(directory.path().join("faults"))?;
        let kept = match keep_socket || row.is_bare {
            true => Some(TcpListener::bind("127.0.0.1:0")?),
            false => None,
        };
        let server = start(&row, &program, kept.as_ref(), &directory).await?;
        let serving = server.newest();
        Ok(Self {
            row,
            program,
            kept,
            now: Mutex::new(Now {
                server: Arc::new(server),
                serving,
                log: Vec::new(),
            }),
            open_at_rest: AtomicUsize::new(0),
            directory,
        })
    }

    /// Where its clients find it, all its life.
    pub(super) fn target(&self) -> anyhow::Result<Target> {
        Ok(Target::Tcp(match &self.kept {
            Some(listener) => listener.local_addr()?,
            None => self.serving().tcp()?,
        }))
    }

    pub(super) fn socket_is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether nothing has a predecessor yet, and so nothing is known of what that has.
    pub(super) fn is_first(&self) -> bool {
        !self.row.is_bare && self.open_at_rest.load(Relaxed) == 0
    }

    fn now(&self) -> Now {
        self.now
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn server(&self) -> Arc<Server> {
        self.now().server
    }

    /// The generation that is to serve.
    pub(super) fn serving(&self) -> Ready {
        self.now().serving
    }

    fn serves_now(&self, ready: &Ready) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.serving = ready.clone();
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.directory.path().join("app.pid")
    }

    fn faults(&self) -> PathBuf {
        self.directory.path().join("faults")
    }

    /// What all processes of this life have written to standard error.
    pub(super) fn log(&self) -> Vec<String> {
        let now = self.now();
        let mut log = now.log;
        log.extend(now.server.stderr());
        log
    }

    /// Does it, and says what it may have cost.
    pub(super) async fn suffer(&self, event: Event) -> anyhow::Result<Cost> {
        match event {
            Event::Upgrade => {
                let old = self.replace().await?;
                self.ended_well(&old.process).await?;
                let gone = format!("predecessor gone predecessor={}", old.pid());
                self.server().stderr_line(&gone, BOUND).await?;
            }
            Event::Upgrades(number) => {
                let mut old = Vec::new();
                for _ in 0..number {
                    old.push(self.replace().await?);
                }
                for old in old {
                    self.ended_well(&old.process).await?;
                }
            }
            Event::Fault(point, action) => return self.fail(point, action).await,
            Event::Restart => self.restart().await?,
        }
        Ok(Cost::Nothing)
    }

    /// Asks for an upgrade and waits until the next one is ready. Returns the one before.
    async fn replace(&self) -> anyhow::Result<Ready> {
        let old = self.serving();
        let before = self.known();
        old.process.signal(Signal::HUP)?;
        let new = self.other_than(&before).await?;
        ensure!(
            new.generation == old.generation + 1,
            "generation {} after {}",
            new.generation,
            old.generation
        );
        self.serves_now(&new);
        Ok(old)
    }

    fn known(&self) -> Vec<u32> {
        self.server().generations().iter().map(Ready::pid).collect()
    }

    /// The newest generation, once it is none of these.
    async fn other_than(&self, pids: &[u32]) -> anyhow::Result<Ready> {
        let server = self.server();
        settles("another generation to be ready", || {
            let newest = server.newest();
            (!pids.contains(&newest.pid())).then_some(newest)
        })
        .await
    }

    async fn ended_well(&self, process: &Process) -> anyhow::Result<()> {
        let exit = process.exit(BOUND).await?;
        // The status of one that outlived its own predecessor may be told to another.
        ensure!(
            matches!(exit, Exit::Status(0) | Exit::Unknown),
            "process {}: {exit}",
            process.pid()
        );
        Ok(())
    }

    async fn fail(&self, point: &'static Point, action: Action) -> anyhow::Result<Cost> {
        let (left, lost) = outcome(point, action);
        let old = self.serving();
        let before = self.known();
        let faults = self.faults();
        for left in fs::read_dir(&faults)? {
            fs::remove_file(left?.path())?;
        }
        plant(&faults, point, action)?;
        old.process.signal(Signal::HUP)?;
        let failed = faults::reached(&faults, point.name, BOUND).await?;
        match action {
            Action::StopAndGoOn => {
                is_stopped(&failed, BOUND).await?;
                sleep(STOPPED).await;
                if go_on(&faults, point.name, &failed).is_err() {
                    // On a busy machine a time limit was first: it was given up and killed.
                    return Ok(Cost::Inside);
                }
            }
            Action::StopAndKill => {
                is_stopped(&failed, BOUND).await?;
                // On a busy machine a time limit may have been first.
                let _ = failed.signal(Signal::KILL);
                failed.exit(BOUND).await?;
            }
            _ => {
                failed.exit(BOUND).await?;
            }
        }
        if left == Left::Successor {
            let new = self.other_than(&before).await?;
            self.serves_now(&new);
            old.process.exit(BOUND).await?;
        }
        Ok(match lost {
            Lost::Nothing => Cost::Nothing,
            Lost::Inside | Lost::Crash => Cost::Inside,
        })
    }

    /// Drains it, and starts it anew on the socket that is kept.
    async fn restart(&self) -> anyhow::Result<()> {
        self.terminate().await?;
        let server = start(
            &self.row,
            &self.program,
            self.kept.as_ref(),
            &self.directory,
        )
        .await?;
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let log = now.server.stderr();
        now.log.extend(log);
        now.serving = server.newest();
        now.server = Arc::new(server);
        self.open_at_rest.store(0, Relaxed);
        Ok(())
    }

    /// Ends the service, which is to leave nothing behind.
    pub(super) async fn terminate(&self) -> anyhow::Result<()> {
        let serving = self.serving();
        serving.process.signal(Signal::TERM)?;
        self.ended_well(&serving.process).await?;
        let server = self.server();
        settles("nobody to be left", || {
            let all = server.processes().ok()?;
            all.iter().all(|stat| stat.is_zombie()).then_some(())
        })
        .await?;
        ensure!(!self.pid_file().exists(), "the pid file is left");
        Ok(())
    }
}

async fn start(
    row: &Row,
    program: &Path,
    kept: Option<&TcpListener>,
    directory: &TempDir,
) -> anyhow::Result<Server> {
    let socket = kept.map(|listener| listener.try_clone().map(OwnedFd::from));
    let socket = socket.transpose()?;
    let address = match kept {
        Some(listener) => listener.local_addr()?.to_string(),
        None => "127.0.0.1:0".into(),
    };
    let program = match socket {
        Some(socket) if row.is_bare => {
            Program::new(program)
                .stdin(socket)
                .args(["--no-handover", "--listen", "http=stdin"])
        }
        Some(socket) => Program::new("/bin/sh")
            .args(["-c", ACTIVATE])
            .arg(program)
            .stdin(socket)
            .args(["--listen", &address]),
        None => Program::new(program).args(["--listen", &address]),
    };
    program
        .args(["--workers", "2"])
        .arg("--pid-file")
        .arg(directory.path().join("app.pid"))
        // So that there is a progress to report, and a state of more than one piece.
        .args(["--ready-delay", "0.02", "--keep-state", "100000"])
        .args(["--ready-timeout", "30", "--probation", "2"])
        .env(faults::VARIABLE, directory.path().join("faults"))
        .env("RUST_LOG", "info")
        .start()
        .await
}
