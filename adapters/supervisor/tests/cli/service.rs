//! A service, and the program that asks it.

use std::{
    env, fs,
    fs::File,
    io::{BufRead, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{self, Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use handover::{Generation, Graceful, Policy};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The directory of the service. Makes this process a server.
const DIR: &str = "HANDOVER_CLI_TEST_DIR";

#[test]
fn runs_if_asked() {
    let Some(dir) = env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(serve(Path::new(&dir)));
}

async fn serve(dir: &Path) {
    let policy = Policy::default().with_upgrade_deadline(Duration::from_secs(15));
    let generation = Generation::builder()
        .graceful(Graceful::with_policy(policy))
        .control(dir.join("control"))
        .release(fs::read_to_string(dir.join("release")).unwrap_or("1.0.0".to_owned()))
        .ready_timeout(Duration::from_secs(5))
        .probation(if dir.join("probation").exists() {
            Duration::from_secs(15)
        } else {
            Duration::ZERO
        })
        .start()
        .unwrap();
    let mut listener = generation.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let graceful = generation.graceful();
    tokio::spawn(async move {
        // Each connection holds the drain until its peer closes it.
        while let Ok((mut stream, _)) = listener.accept().await {
            let holder = graceful.hold("a visitor");
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                drop(holder);
            });
        }
    });
    generation.progress("warming up \x1b[31m");
    let fault = fs::read_to_string(dir.join("fault")).unwrap_or_default();
    match fault.as_str() {
        "exit" => {
            eprintln!("no database");
            process::exit(3);
        }
        "panic" => panic!("no luck at all"),
        "hang" => std::future::pending().await,
        _ => {}
    }
    generation.ready().await.unwrap();
    println!("ready {} {address}", process::id());
    if fault == "exit-after-ready" {
        process::exit(6);
    }
    generation.graceful().drained().await;
}

/// The first generation and all that come after it.
pub(crate) struct Service {
    pub(crate) dir: TempDir,
    child: Child,
    lines: Receiver<String>,
}

impl Service {
    /// The command of a service in this directory, which serves nobody yet.
    pub(crate) fn line(dir: &Path) -> [String; 6] {
        let program = env::current_exe().unwrap();
        [
            format!("{DIR}={}", dir.display()),
            program.to_str().unwrap().to_owned(),
            "--exact".to_owned(),
            "service::runs_if_asked".to_owned(),
            "--nocapture".to_owned(),
            "--test-threads=1".to_owned(),
        ]
    }

    pub(crate) fn start() -> (Self, u32, String) {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    pub(crate) fn start_in(dir: TempDir) -> (Self, u32, String) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.path().join("stderr"))
            .unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "service::runs_if_asked", "--nocapture"])
            .arg("--test-threads=1")
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let service = Self { dir, child, lines };
        let (pid, address) = service.ready();
        (service, pid, address)
    }

    /// The next generation.
    pub(crate) fn ready(&self) -> (u32, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("not ready; the log:\n{}", self.log()));
            // The test harness begins the first line itself.
            if let Some((_, rest)) = line.split_once("ready ") {
                let (pid, address) = rest.split_once(' ').unwrap();
                return (pid.parse().unwrap(), address.to_owned());
            }
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn fault(&self, what: &str) {
        fs::write(self.path("fault"), what).unwrap();
    }

    /// The program, with these arguments and our control socket in the environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = program(args);
        command.env("HANDOVER_CONTROL", self.path("control"));
        command
    }

    /// Runs it to its end.
    pub(crate) fn handover(&self, args: &[&str]) -> Outcome {
        outcome(&mut self.command(args))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Every process that has our directory in its environment is ours.
        let mark = format!("{DIR}={}", self.dir.path().display());
        crate::shared::marked(&mark).into_iter().for_each(kill);
        let _ = self.child.wait();
    }
}

/// The program `handover`.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(args).env_remove("HANDOVER_CONTROL");
    command
}

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {:?}\n{}\n{}", self.status, self.out, self.err)
    }
}

pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Outcome {
        status: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// Kills a process.
pub(crate) fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = kill_process(pid, Signal::KILL);
}

/// A connection that holds a drain open from now on.
pub(crate) fn visit(address: &str, service: &Service) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !service.handover(&["status"]).out.contains("1 task") {
        assert!(Instant::now() < deadline, "the visitor is not seen");
    }
    stream
}
