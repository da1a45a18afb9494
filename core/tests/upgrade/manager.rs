//! A service manager that is the test's own: it listens to the main process only, keeps descriptors,
//! lets go of barriers, and gives a stop its time, as systemd does.

use std::{
    env,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{
            net::{UnixDatagram, UnixStream},
            process::CommandExt,
        },
    },
    process::{self, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use rustix::{
    io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
    },
    process::Signal,
};
use tempfile::TempDir;

use super::service::{ARGS, PATIENCE, Ready, Service, alive, directory, prepare, send};

/// The names of what is passed. Makes this process a launcher.
const LAUNCH: &str = "HANDOVER_TEST_LAUNCH";
const FDS: usize = 16;

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) pid: u32,
    pub(crate) text: String,
    pub(crate) at: Instant,
    /// Whether the main process said it. What others say is dropped.
    pub(crate) heard: bool,
}

impl Said {
    pub(crate) fn says(&self, line: &str) -> bool {
        self.text.lines().any(|said| said == line)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let mut lines = self.text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

#[derive(Default)]
struct State {
    main: u32,
    said: Vec<Said>,
    /// How much of it a test has looked at.
    seen: usize,
    store: Vec<(String, OwnedFd)>,
    /// When the service is killed.
    deadline: Option<Instant>,
    killed: bool,
    hold_barriers: bool,
    barriers: Vec<OwnedFd>,
}

pub(crate) struct Manager {
    state: Arc<Mutex<State>>,
    dir: TempDir,
    /// `WATCHDOG_USEC`.
    pub(crate) watchdog: Option<Duration>,
    /// `FDSTORE`: `FileDescriptorStoreMax=`.
    pub(crate) room: usize,
    /// What socket units pass.
    pub(crate) activated: Vec<(String, OwnedFd)>,
    pub(crate) env: Vec<(&'static str, String)>,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        sockopt::set_socket_passcred(&socket, true).unwrap();
        let pause = Duration::from_millis(5);
        socket.set_read_timeout(Some(pause)).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::downgrade(&state);
        std::thread::spawn(move || listen(&socket, &shared));
        Self {
            state,
            dir,
            watchdog: None,
            room: FDS,
            activated: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Starts the service, with what socket units and the store have for it.
    pub(crate) fn start(&self) -> (Service, Ready) {
        let dir = directory();
        let mut state = self.state();
        let command = self.command(&dir, &state);
        let service = Service::spawn(dir, command);
        state.main = service.child.id();
        drop(state);
        let ready = self.started(&service);
        (service, ready)
    }

    /// Starts it again, after its end.
    pub(crate) fn restart(&self, service: &mut Service) -> Ready {
        let mut state = self.state();
        let command = self.command(&service.dir, &state);
        service.respawn(command);
        state.main = service.child.id();
        drop(state);
        self.started(service)
    }

    /// Waits until the service is ready, and all that it said before that has been heard.
    fn started(&self, service: &Service) -> Ready {
        let ready = service.ready();
        assert_eq!(ready.pid, service.child.id());
        let says_ready = |said: &Said| said.pid == ready.pid && said.says("READY=1");
        service.wait_until("READY=1", || self.state().said.iter().any(says_ready));
        ready
    }

    fn command(&self, dir: &TempDir, state: &State) -> Command {
        let mut command = Command::new(dir.path().join("server"));
        prepare(&mut command, dir.path());
        let names: Vec<&str> = self
            .activated
            .iter()
            .chain(&state.store)
            .map(|(name, _)| name.as_str())
            .collect();
        command
            .args(["--exact", "manager::launches_if_asked", "--nocapture"])
            .env(LAUNCH, names.join(":"))
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(self.parcel(state));
        if self.room > 0 {
            command.env("FDSTORE", self.room.to_string());
        }
        if let Some(time) = self.watchdog {
            command.env("WATCHDOG_USEC", time.as_micros().to_string());
        }
        command
    }

    /// A socket with all descriptors in it: a process that is being started at the same time by
    /// another test must not get any.
    fn parcel(&self, state: &State) -> OwnedFd {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fds = self.activated.iter().chain(&state.store);
        let fds: Vec<BorrowedFd<'_>> = fds.map(|(_, fd)| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        let flags = SendFlags::empty();
        sendmsg(&ours, &[IoSlice::new(b"!")], &mut control, flags).unwrap();
        theirs.into()
    }

    /// Tells the main process to stop, and kills what is there when it has had its time.
    pub(crate) fn stop(&self, time: Duration) -> u32 {
        let mut state = self.state();
        state.deadline = Some(Instant::now() + time);
        send(state.main, Signal::TERM);
        state.main
    }

    /// Whether the service was killed for taking too long.
    pub(crate) fn has_killed(&self) -> bool {
        self.state().killed
    }

    pub(crate) fn main(&self) -> u32 {
        self.state().main
    }

    pub(crate) fn hold_barriers(&self) {
        self.state().hold_barriers = true;
    }

    /// How many barriers were let go.
    pub(crate) fn release_barriers(&self) -> usize {
        let mut state = self.state();
        state.hold_barriers = false;
        state.barriers.drain(..).count()
    }

    /// The names in the store, sorted.
    pub(crate) fn stored(&self) -> Vec<String> {
        let state = self.state();
        let mut names: Vec<_> = state.store.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Puts something into the store.
    pub(crate) fn store(&self, name: &str, fd: OwnedFd) {
        self.state().store.push((name.to_owned(), fd));
    }

    /// All that was said so far.
    pub(crate) fn all(&self) -> Vec<Said> {
        self.state().said.clone()
    }

    /// Waits for a message that has these lines, after the last that was waited for. Signs of life,
    /// times and the store come in between.
    pub(crate) fn hears(&self, lines: &[&str]) -> Said {
        self.hears_one(&format!("{lines:?}"), |said| {
            lines.iter().all(|line| said.says(line))
        })
    }

    pub(crate) fn hears_one(&self, what: &str, wanted: impl Fn(&Said) -> bool) -> Said {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut state = self.state();
            let seen = state.seen;
            if let Some(at) = state.said[seen..].iter().position(&wanted) {
                state.seen += at + 1;
                return state.said[seen + at].clone();
            }
            assert!(
                Instant::now() < deadline,
                "{what} was not said, but {:#?}",
                &state.said[seen..]
            );
            drop(state);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(socket: &UnixDatagram, state: &Weak<Mutex<State>>) {
    while let Some(state) = state.upgrade() {
        let mut bytes = [0; 4096];
        const SPACE: usize = rustix::cmsg_space!(ScmRights(FDS), ScmCredentials(1));
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let iov = &mut [IoSliceMut::new(&mut bytes)];
        let got = recvmsg(socket, iov, &mut control, RecvFlags::CMSG_CLOEXEC);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(got) = got {
            let (mut pid, mut fds) = (0, Vec::new());
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmCredentials(credentials) => {
                        pid = u32::try_from(credentials.pid.as_raw_nonzero().get()).unwrap();
                    }
                    RecvAncillaryMessage::ScmRights(passed) => fds.extend(passed),
                    _ => {}
                }
            }
            let text = String::from_utf8_lossy(&bytes[..got.bytes]).into_owned();
            state.hear(pid, text, fds);
        }
        if state
            .deadline
            .is_some_and(|deadline| Instant::now() > deadline)
        {
            state.deadline = None;
            if alive(state.main) {
                state.killed = true;
                send(state.main, Signal::KILL);
            }
        }
    }
}

impl State {
    fn hear(&mut self, pid: u32, text: String, fds: Vec<OwnedFd>) {
        let said = Said {
            pid,
            heard: pid == self.main,
            text,
            at: Instant::now(),
        };
        self.said.push(said.clone());
        // A barrier is answered whoever sends it.
        if said.text.trim() == "BARRIER=1" {
            if self.hold_barriers {
                self.barriers.extend(fds);
            }
            return;
        }
        if !said.heard {
            return;
        }
        if let Some(pid) = said.value("MAINPID") {
            self.main = pid.parse().unwrap();
        }
        if let Some(usec) = said.value("EXTEND_TIMEOUT_USEC") {
            let until = Instant::now() + Duration::from_micros(usec.parse().unwrap());
            self.deadline = self.deadline.map(|deadline| deadline.max(until));
        }
        let name = said.value("FDNAME").unwrap_or("stored");
        if said.says("FDSTORE=1") {
            for fd in fds {
                // A socket that is there already keeps its name.
                if !self.store.iter().any(|(_, stored)| same(stored, &fd)) {
                    self.store.push((name.to_owned(), fd));
                }
            }
        }
        if said.says("FDSTOREREMOVE=1") {
            self.store.retain(|(stored, _)| stored != name);
        }
    }
}

fn same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let stat = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    stat(one).unwrap() == stat(other).unwrap()
}

/// Puts what is in the parcel where a service looks for it, and becomes the service.
#[test]
fn launches_if_asked() {
    let Ok(names) = env::var(LAUNCH) else { return };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0];
    let iov = &mut [IoSliceMut::new(&mut bytes)];
    recvmsg(std::io::stdin(), iov, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    // High first, so that the low numbers are free.
    let high: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .map(|fd| fcntl_dupfd_cloexec(&fd, 100).unwrap())
        .collect();
    let low: Vec<OwnedFd> = (3..)
        .zip(&high)
        .map(|(number, fd)| {
            let fd = fcntl_dupfd_cloexec(fd, number).unwrap();
            assert_eq!(fd.as_raw_fd(), number, "somebody else has it");
            fcntl_setfd(&fd, FdFlags::empty()).unwrap();
            fd
        })
        .collect();
    let pid = process::id().to_string();
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .arg0(env::args_os().next().unwrap())
        .args(ARGS)
        .env_remove(LAUNCH)
        .stdin(Stdio::null());
    if !low.is_empty() {
        command
            .env("LISTEN_PID", &pid)
            .env("LISTEN_FDS", low.len().to_string())
            .env("LISTEN_FDNAMES", names);
    }
    if env::var_os("WATCHDOG_USEC").is_some() {
        command.env("WATCHDOG_PID", &pid);
    }
    panic!("cannot become the service: {}", command.exec());
}
