//! One cell of the matrix: a service under load, one fault in an upgrade of it, and what comes of
//! that.

use std::{fmt, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};
use handover_tests::{
    faults::{self, Action, Left, Lost, POINTS, Point, Role, go_on, is_stopped, outcome, plant},
    harness::{Exit, Process, Program, Ready, Server, Signal, eventually, proc},
    load::{Clients, Config, Failure, Report, Storm, Target, get},
};
use tempfile::TempDir;
use tokio::time::sleep;

use super::support::{BOUND, Way, directory, listening};

/// For how long a process is stopped that goes on afterwards.
const STOPPED: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) point: &'static Point,
    pub(crate) action: Action,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:?}", self.point, self.action)
    }
}

impl Cell {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let service = Service::start(self).await?;
        let result = service.run(self).await;
        result.map_err(|error| {
            let log = service.server.stderr().join("\n  | ");
            error.context(format!("the log:\n  | {log}\n"))
        })
    }
}

/// At a bye the predecessor is to have gone. Before, where the successor dies, it is to be there,
/// however busy the machine is.
fn probation(cell: Cell) -> &'static str {
    match (cell.point.step, outcome(cell.point, cell.action).0) {
        (8, _) => "0",
        (6.., Left::Predecessor) => "5",
        _ => "0.3",
    }
}

impl Cell {
    pub(crate) async fn stopped_for_long() -> anyhow::Result<()> {
        let point = POINTS.iter().find(|point| point.name == "spawned");
        let point = point.context("the point")?;
        let action = Action::StopAndGoOn;
        let cell = Self { point, action };
        let service = Service::start(cell).await?;
        plant(&service.faults, point, action)?;
        service.first.process.signal(Signal::HUP)?;
        let stopped = service.reached(point.name).await?;
        is_stopped(&stopped, BOUND).await?;
        let successor = service
            .alive()
            .into_iter()
            .find(|stat| stat.pid != stopped.pid());
        let successor = Process::open(successor.context("a successor")?.pid)?;
        has_ended(&successor).await?;
        go_on(&service.faults, point.name, &stopped)?;
        let failed = service
            .server
            .stderr_line("upgrade failed, serving on", BOUND);
        let failed = failed.await?;
        ensure!(failed.contains("it may be stopped"), "{failed}");
        service.serves_alone(&service.first).await?;
        let next = service.upgrades(&service.first, cell).await?;
        service.ends(&next, cell).await
    }
}

struct Service {
    server: Server,
    first: Ready,
    faults: PathBuf,
    pid_file: PathBuf,
    socket: PathBuf,
    _kept: TempDir,
}

impl Service {
    async fn start(cell: Cell) -> anyhow::Result<Self> {
        let (kept, path) = directory();
        let faults = path("faults");
        fs::create_dir(&faults)?;
        let socket = path("app.sock");
        let program: Program = listening(Way::Axum.path(), "127.0.0.1:0")
            .arg("--listen")
            .arg(format!("local=unix:{}", socket.display()))
            .arg("--pid-file")
            .arg(path("app.pid"))
            // So that there is a progress to report, and a state of more than one piece.
            .args(["--ready-delay", "0.02", "--keep-state", "100000"])
            .args(["--upgrade-deadline", "10", "--deadline", "10"])
            .args(match cell.action {
                // Its time limits are what ends it; elsewhere they are not to.
                Action::Hang => ["--ready-timeout", "3", "--move-timeout", "2"],
                _ => ["--ready-timeout", "60", "--move-timeout", "60"],
            })
            .args(["--probation", probation(cell)])
            .env(faults::VARIABLE, &faults);
        let server = program.start().await?;
        Ok(Self {
            first: server.newest(),
            server,
            faults,
            pid_file: path("app.pid"),
            socket,
            _kept: kept,
        })
    }

    async fn run(&self, cell: Cell) -> anyhow::Result<()> {
        let (left, lost) = outcome(cell.point, cell.action);
        let storm = self.storm()?;
        // Connections of all kinds are there.
        eventually("the load", BOUND, async || {
            (storm.snapshot().ok > 10).then_some(())
        })
        .await?;
        let point = cell.point.name;
        plant(&self.faults, cell.point, cell.action)?;
        self.first.process.signal(Signal::HUP)?;
        let failed = self.reached(point).await?;
        self.suffer(cell, &failed).await?;
        if left == Left::Nobody {
            return self.is_over(storm, &failed).await;
        }
        let survivor = self
            .settles(left, &failed)
            .await
            .context("after the fault")?;
        let next = self
            .upgrades(&survivor, cell)
            .await
            .context("the next upgrade")?;
        if left == Left::Predecessor || left == Left::Successor {
            ensure!(next.sockets == self.first.sockets, "{:?}", next.sockets);
        }
        self.stopped(storm, lost).await?;
        self.ends(&next, cell).await.context("the end")
    }

    fn storm(&self) -> anyhow::Result<Storm> {
        let mut clients = Clients::none();
        (clients.keepalive, clients.idle, clients.fresh) = (2, 4, 1);
        let mut config = Config::new(self.first.tcp()?).with_clients(clients);
        // Many of these run at once.
        config.keepalive_pause = Duration::from_millis(20);
        config.fresh_pause = Duration::from_millis(20);
        config.idle_max = Duration::from_millis(200);
        // Longer than any time limit of the servers.
        config.timeout = Duration::from_secs(25);
        Ok(Storm::start(config))
    }

    /// Waits until a process has come to the point.
    async fn reached(&self, point: &str) -> anyhow::Result<Process> {
        let process = faults::reached(&self.faults, point, BOUND).await?;
        // The exit status of a child is told once: to one handle.
        match process.pid() == self.first.pid() {
            true => Ok(self.first.process.clone()),
            false => Ok(process),
        }
    }

    /// Does the part of the fault that the process does not do itself, and waits until it is done.
    async fn suffer(&self, cell: Cell, failed: &Process) -> anyhow::Result<()> {
        let role = match failed.pid() == self.first.pid() {
            true => Role::Predecessor,
            false => Role::Successor,
        };
        ensure!(
            role == cell.point.role,
            "it was the {role:?} who came there"
        );
        match (cell.action, role) {
            (Action::Exit | Action::Kill, _) => {}
            (Action::Panic, _) if cell.point.is_in_main => {}
            (Action::Panic, _) => failed.signal(Signal::USR1)?,
            (Action::Hang, Role::Predecessor) => {
                // One of its tasks hangs; the service does not.
                let target = self.target()?;
                get(&target, "/").await.context("beside the hanging task")?;
                failed.signal(Signal::KILL)?;
            }
            // It says that it serves, and does not: nobody can tell but who looks after it.
            (Action::Hang, Role::Successor) if cell.point.name == "serving-sent" => {
                self.server.stderr_line("successor serves", BOUND).await?;
                failed.signal(Signal::KILL)?;
            }
            (Action::Hang, Role::Successor) => {
                if outcome(cell.point, cell.action).0 == Left::Successor {
                    return Ok(());
                }
            }
            (Action::StopAndGoOn, _) => {
                is_stopped(failed, BOUND).await?;
                sleep(STOPPED).await;
                return go_on(&self.faults, cell.point.name, failed);
            }
            (Action::StopAndKill, _) => {
                is_stopped(failed, BOUND).await?;
                // On a busy machine a time limit may have been first.
                let _ = failed.signal(Signal::KILL);
            }
        }
        has_ended(failed).await
    }

    fn target(&self) -> anyhow::Result<Target> {
        self.first.first_target()
    }

    /// One generation serves, all know which, and of the other nothing is left.
    async fn settles(&self, left: Left, failed: &Process) -> anyhow::Result<Ready> {
        let survivor = match left {
            Left::Predecessor => self.first.clone(),
            Left::Successor | Left::Afresh => self.other_than(&[self.first.pid()]).await?,
            Left::Nobody => bail!("nobody is left"),
        };
        ensure!(left == Left::Successor || survivor.pid() != failed.pid());
        self.serves_alone(&survivor).await?;
        Ok(survivor)
    }

    /// The newest generation, once it is none of these.
    async fn other_than(&self, pids: &[u32]) -> anyhow::Result<Ready> {
        eventually("another generation to be ready", BOUND, async || {
            let newest = self.server.newest();
            (!pids.contains(&newest.pid())).then_some(newest)
        })
        .await
    }

    async fn serves_alone(&self, ready: &Ready) -> anyhow::Result<()> {
        let pid = ready.pid();
        eventually(
            &format!("{pid} to be the only process"),
            BOUND,
            async || {
                let alive = self.alive();
                (alive.len() == 1 && alive[0].pid == pid).then_some(())
            },
        )
        .await
        .with_context(|| format!("{:?}", self.alive()))?;
        eventually("its children to be reaped", BOUND, async || {
            proc::zombies(pid).ok()?.is_empty().then_some(())
        })
        .await?;
        eventually(&format!("the pid file to name {pid}"), BOUND, async || {
            let text = fs::read_to_string(&self.pid_file).ok()?;
            (text == format!("{pid}\n")).then_some(())
        })
        .await?;
        for (name, _) in &ready.sockets {
            let target = ready.target(name)?;
            let answer = get(&target, "/")
                .await
                .with_context(|| format!("ask {target}"))?;
            ensure!(
                answer.head.pid == Some(pid),
                "{:?} answers",
                answer.head.pid
            );
            ensure!(!answer.head.close, "it drains");
        }
        Ok(())
    }

    /// What of this service runs.
    fn alive(&self) -> Vec<proc::Stat> {
        let mut all = self.server.processes().unwrap_or_default();
        all.retain(|stat| !stat.is_zombie());
        all
    }

    async fn upgrades(&self, survivor: &Ready, cell: Cell) -> anyhow::Result<Ready> {
        let before: Vec<u32> = self.server.generations().iter().map(Ready::pid).collect();
        survivor.process.signal(Signal::HUP)?;
        let next = self.other_than(&before).await?;
        let exit = survivor.process.exit(BOUND).await?;
        let wanted = match (cell.point.name, cell.action) {
            // One of its connections hangs for ever, and is cut.
            ("claimed", Action::Hang) => Exit::Status(3),
            _ => Exit::Status(0),
        };
        ensure!(exit == wanted || exit == Exit::Unknown, "{exit}");
        ensure!(next.generation == survivor.generation + 1);
        self.serves_alone(&next).await?;
        Ok(next)
    }

    async fn stopped(&self, storm: Storm, lost: Lost) -> anyhow::Result<()> {
        let clients = 7;
        if lost != Lost::Crash {
            // They all go on.
            let before = storm.snapshot().ok;
            eventually("the load to go on", BOUND, async || {
                (storm.snapshot().ok > before + 2 * clients).then_some(())
            })
            .await?;
        }
        let report = storm.stop().await;
        let most = match lost {
            Lost::Nothing => 0,
            Lost::Inside => clients,
            Lost::Crash => return Ok(()),
        };
        ensure!(
            report.lost() <= most,
            "at most {most} of these are to be lost: {report}"
        );
        is_served_or_was_inside(&report)
    }

    async fn ends(&self, last: &Ready, cell: Cell) -> anyhow::Result<()> {
        last.process.signal(Signal::TERM)?;
        let exit = last.process.exit(BOUND).await?;
        ensure!(matches!(exit, Exit::Status(0) | Exit::Unknown), "{exit}");
        eventually("nobody to be left", BOUND, async || {
            self.alive().is_empty().then_some(())
        })
        .await?;
        ensure!(!self.pid_file.exists(), "the pid file is left");
        let _ = cell;
        ensure!(!self.socket.exists(), "the socket file is left");
        Ok(())
    }

    /// The service has ended with its only process. What that has left is in nobody's way.
    async fn is_over(&self, storm: Storm, failed: &Process) -> anyhow::Result<()> {
        eventually("nobody to be left", BOUND, async || {
            self.alive().is_empty().then_some(())
        })
        .await?;
        drop(storm);
        let address = self.first.tcp()?.to_string();
        let again = listening(Way::Axum.path(), &address)
            .arg("--listen")
            .arg(format!("local=unix:{}", self.socket.display()))
            .arg("--pid-file")
            .arg(&self.pid_file)
            .start()
            .await
            .context("start anew")?;
        let ready = again.newest();
        ensure!(ready.generation == 0 && ready.pid() != failed.pid());
        let text = fs::read_to_string(&self.pid_file)?;
        ensure!(text == format!("{}\n", ready.pid()), "{text}");
        for (name, _) in &ready.sockets {
            get(&ready.target(name)?, "/").await?;
        }
        ensure!(again.terminate(BOUND).await?.is_success());
        ensure!(!self.pid_file.exists() && !self.socket.exists());
        Ok(())
    }
}

/// A connection may end with the process that had it; that nobody listens, or that an answer is not
/// what it should be, is never to happen.
fn is_served_or_was_inside(report: &Report) -> anyhow::Result<()> {
    for never in [
        Failure::ConnectRefused,
        Failure::BadStatus,
        Failure::BadBody,
    ] {
        ensure!(report.lost_as(never) == 0, "{report}");
    }
    Ok(())
}

async fn has_ended(process: &Process) -> anyhow::Result<()> {
    let gone = async || match proc::Stat::of(process.pid()) {
        Ok(stat) => stat.is_zombie().then_some(()),
        Err(_) => Some(()),
    };
    eventually("it to end", BOUND, gone).await
}
