//! Starts a supervisor, and asks what it runs.

use std::{
    env, fs,
    fs::File,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::app::DIR;

/// Longer than anything takes on a busy machine: one that writes much to its disk may keep a process
/// from starting for twenty seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program that is run, and its arguments.
pub(crate) fn app() -> [String; 5] {
    let program = env::current_exe().unwrap();
    [
        program.to_str().unwrap().to_owned(),
        "--exact".to_owned(),
        "app::runs_if_asked".to_owned(),
        "--nocapture".to_owned(),
        "--test-threads=1".to_owned(),
    ]
}

/// A supervisor with all that it runs.
pub(crate) struct Run {
    pub(crate) dir: TempDir,
    child: Child,
}

impl Run {
    /// `handover run` with these flags, one TCP socket and the app, which is ready at once.
    pub(crate) fn start(flags: &[&str], app: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags, app)
    }

    pub(crate) fn start_in(dir: TempDir, flags: &[&str], what: &str) -> Self {
        let control = dir.path().join("control");
        let mut args = vec!["run", "--listen", "web=127.0.0.1:0", "--control"];
        args.push(control.to_str().unwrap());
        args.extend(flags);
        args.push("--");
        let app = app();
        args.extend(app.iter().map(String::as_str));
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        command.args(args);
        Self::spawn(dir, command, what)
    }

    /// Anything.
    pub(crate) fn spawn(dir: TempDir, mut command: Command, app: &str) -> Self {
        fs::write(dir.path().join("app"), app).unwrap();
        let log = |name: &str| {
            let path = dir.path().join(name);
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap()
        };
        let child = command
            .env(DIR, dir.path())
            // What is left of one that is killed goes with it.
            .env("TMPDIR", dir.path())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(log("stdout"))
            .stderr(log("stderr"))
            .process_group(0)
            .spawn()
            .unwrap();
        Self { dir, child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the next process does.
    pub(crate) fn app(&self, what: &str) {
        fs::write(self.path("app"), what).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn log(&self) -> String {
        self.read("stderr")
    }

    /// Waits until something is so.
    pub(crate) fn until<T>(&self, what: &str, find: impl Fn() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find() {
                return found;
            }
            assert!(Instant::now() < deadline, "waited for {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a text has been logged so many times.
    pub(crate) fn logged(&self, text: &str, times: usize) {
        let what = format!("{text:?}, {times} times");
        self.until(&what, || {
            (self.log().matches(text).count() >= times).then_some(())
        });
    }

    /// The address of its first TCP socket.
    pub(crate) fn address(&self) -> SocketAddr {
        self.until("an address", || {
            let log = self.log();
            let rest = log.split("holds tcp ").nth(1)?;
            rest.split_whitespace().next()?.parse().ok()
        })
    }

    /// The process that answers.
    pub(crate) fn answers(&self) -> u32 {
        let address = self.address();
        self.until("an answer", || get(address, "/").ok()?.parse().ok())
    }

    /// Waits until another process answers than this one, for good.
    pub(crate) fn answers_not(&self, old: u32) -> u32 {
        self.until("another process", || {
            (!Path::new(&format!("/proc/{old}")).exists()).then_some(())
        });
        self.answers()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Runs `handover` against its control socket.
    pub(crate) fn handover(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        let output = command
            .args(args)
            .env("HANDOVER_CONTROL", self.path("control"))
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    /// Asks for an upgrade once it can be had: a process may answer before it has said that it is
    /// ready.
    pub(crate) fn upgrade(&self) -> (Option<i32>, String) {
        self.logged(" serves\n", 1);
        self.handover(&["upgrade"])
    }

    /// Replaces the program and waits until only the new process is there.
    pub(crate) fn replace(&self) {
        let (status, text) = self.upgrade();
        assert_eq!(status, Some(0), "{text}\n{}", self.log());
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let log = fs::read_to_string(self.path("stderr")).unwrap();
            assert!(Instant::now() < deadline, "it does not end\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["stdout", "stderr"] {
                eprintln!("---- the end of {name}\n{}", end(&self.read(name)));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Every process that has our directory in its environment is ours.
        let mark = format!("{DIR}={}", self.dir.path().display());
        for pid in crate::shared::marked(&mark) {
            send(pid, Signal::KILL);
        }
    }
}

/// The last lines of a log, which may be long.
fn end(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// An address at which nobody listens, for who needs to know it before it is bound.
pub(crate) fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap()
}

/// Sends a signal, if the process is there.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

/// Asks once, on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    ask(TcpStream::connect(address)?, path)
}

/// Asks once on a connection.
pub(crate) fn ask(mut stream: TcpStream, path: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The value of a variable in an answer to `/env`.
pub(crate) fn variable(env: &str, name: &str) -> Option<String> {
    env.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .map(ToOwned::to_owned)
}
