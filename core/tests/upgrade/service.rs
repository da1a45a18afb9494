//! A service under test: the first generation and all that come after it.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::server;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Service {
    pub(crate) dir: TempDir,
    pub(crate) child: Child,
    lines: Receiver<String>,
    kept: RefCell<Vec<String>>,
}

/// What a generation said when it was ready.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) pid: u32,
    pub(crate) generation: u64,
    pub(crate) addresses: Vec<String>,
}

/// A directory with the program in it, behind a symlink.
pub(crate) fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    symlink(std::env::current_exe().unwrap(), dir.path().join("server")).unwrap();
    dir
}

/// The arguments that make this binary a server.
pub(crate) const ARGS: [&str; 4] = [
    "--exact",
    "server::runs_if_asked",
    "--nocapture",
    "--test-threads=1",
];

/// A server's command.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(dir.join("server"));
    prepare(&mut command, dir);
    command.args(ARGS);
    command
}

/// What any command that ends in a server needs.
pub(crate) fn prepare(command: &mut Command, dir: &Path) {
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("stderr"))
        .unwrap();
    command
        .env(server::DIR, dir)
        .stdout(Stdio::piped())
        .stderr(log);
}

impl Service {
    /// Starts the first generation, with these variables.
    pub(crate) fn start(env: &[(&str, &str)]) -> (Self, Ready) {
        let dir = directory();
        let mut command = command(dir.path());
        command.envs(env.iter().copied());
        Self::run(dir, command)
    }

    pub(crate) fn run(dir: TempDir, command: Command) -> (Self, Ready) {
        let service = Self::spawn(dir, command);
        let ready = service.ready();
        (service, ready)
    }

    /// Starts a first generation, and does not wait for it.
    pub(crate) fn spawn(dir: TempDir, command: Command) -> Self {
        let (child, lines) = spawned(command);
        Self {
            dir,
            child,
            lines,
            kept: RefCell::default(),
        }
    }

    /// Starts a first generation in the place of one that has ended.
    pub(crate) fn respawn(&mut self, command: Command) {
        let _ = self.first_ended();
        (self.child, self.lines) = spawned(command);
        self.kept.borrow_mut().clear();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits for a line with this in it, and returns the rest. Other lines are kept: those of two
    /// processes come in any order.
    pub(crate) fn line(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut kept = self.kept.borrow_mut();
        let mut looked = 0;
        loop {
            while looked < kept.len() {
                // Not at the beginning: the test harness begins the first line itself.
                if let Some((_, rest)) = kept[looked].split_once(text) {
                    let rest = rest.to_owned();
                    kept.remove(looked);
                    return rest;
                }
                looked += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => kept.push(line),
                Err(_) => panic!("no line {text:?}; the log:\n{}", self.log()),
            }
        }
    }

    /// Waits until new connections all get to this process. Between the commit and the moment at
    /// which the predecessor learns that its successor serves, both accept.
    pub(crate) fn served_by(&self, address: &str, pid: u32) {
        let all = || (0..20).all(|_| who(address) == pid);
        self.wait_until(&format!("{pid} serves"), all);
    }

    /// Waits for the next generation.
    pub(crate) fn ready(&self) -> Ready {
        let line = self.line("ready pid=");
        let mut parts = line.split(' ');
        let pid = parts.next().unwrap().parse().unwrap();
        let generation = parts.next().unwrap().strip_prefix("generation=").unwrap();
        let generation = generation.parse().unwrap();
        Ready {
            pid,
            generation,
            addresses: parts.map(str::to_owned).collect(),
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    /// Waits for a text in the log.
    pub(crate) fn logged(&self, text: &str) {
        self.wait_until(text, || self.log().contains(text));
    }

    pub(crate) fn fault(&self, what: &str) {
        fs::write(self.path("fault"), what).unwrap();
    }

    pub(crate) fn no_fault(&self) {
        fs::remove_file(self.path("fault")).unwrap();
    }

    /// The number in the pid file, if there is one. It must be whole at every moment.
    pub(crate) fn pid_file(&self) -> Option<u32> {
        let text = fs::read_to_string(self.path("pid")).ok()?;
        let mode = fs::metadata(self.path("pid")).ok()?.permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        Some(text.strip_suffix('\n').expect("a newline").parse().unwrap())
    }

    /// Waits for a condition.
    pub(crate) fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "never: {what}; the log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a process has ended.
    pub(crate) fn gone(&self, pid: u32) {
        self.wait_until(&format!("the end of {pid}"), || !alive(pid));
    }

    /// Waits until the first generation has ended.
    pub(crate) fn first_ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "does not end; the log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Starts a process, with the lines that it prints.
fn spawned(mut command: Command) -> (Child, Receiver<String>) {
    let mut child = command.spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            if send.send(line).is_err() {
                return;
            }
        }
    });
    (child, lines)
}

impl Drop for Service {
    fn drop(&mut self) {
        // Every process that has our directory in its environment is ours.
        let mark = format!("{}={}", server::DIR, self.dir.path().display()).into_bytes();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark)
            {
                send(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of the service.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

/// Whether a process runs. A zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// The state letter of a process.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// An open conversation.
pub(crate) struct Talk<S: std::io::Read + Write>(BufReader<S>);

impl<S: std::io::Read + Write> Talk<S> {
    pub(crate) fn ask(&mut self, question: &str) -> String {
        writeln!(self.0.get_mut(), "{question}").unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        answer.strip_suffix('\n').expect("an answer").to_owned()
    }
}

pub(crate) fn connect(address: &str) -> Talk<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Talk(BufReader::new(stream))
}

pub(crate) fn connect_unix(path: &Path) -> Talk<UnixStream> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Talk(BufReader::new(stream))
}

/// One question on a connection of its own.
pub(crate) fn ask(address: &str, question: &str) -> String {
    connect(address).ask(question)
}

/// Which process answers.
pub(crate) fn who(address: &str) -> u32 {
    ask(address, "pid").parse().unwrap()
}
