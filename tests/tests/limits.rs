//! A limit of the system that is reached in an upgrade: that one fails and says why, the predecessor
//! serves on, nothing is lost, and the next one, with the limit out of the way, succeeds.
#![cfg(target_os = "linux")]

mod support;

use std::{fs, path::PathBuf, time::Duration};

use handover_tests::{
    faults::{self, Action, POINTS, Role, go_on, is_stopped, plant},
    harness::{Exit, Server, Signal, eventually, proc},
    load::{Clients, Config, Storm, Target, get},
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tempfile::TempDir;

use self::support::{BOUND, Way, directory, pids::Pids};

/// What an upgrade that fails says.
const FAILED: &str = "upgrade failed, serving on";
/// More descriptors than an upgrade needs.
const ENOUGH: usize = 100;

/// A service under load, and where its processes can be held up.
struct Service {
    server: Server,
    storm: Storm,
    faults: PathBuf,
    _kept: TempDir,
}

impl Service {
    /// Starts it with so many bytes of state.
    async fn start(way: Way, state: u32) -> Self {
        let (kept, path) = directory();
        let faults = path("faults");
        fs::create_dir(&faults).unwrap();
        let program = way.program().args(["--keep-state", &state.to_string()]);
        let server = program.env(faults::VARIABLE, &faults).start();
        let server = server.await.unwrap();
        // They keep their connections: a new one would need a descriptor.
        let mut clients = Clients::none();
        (clients.keepalive, clients.idle) = (2, 6);
        let mut config = Config::new(server.newest().tcp().unwrap()).with_clients(clients);
        config.keepalive_pause = Duration::from_millis(20);
        config.timeout = BOUND;
        let storm = Storm::start(config);
        let service = Self {
            server,
            storm,
            faults,
            _kept: kept,
        };
        service.answers(50).await;
        service
    }

    fn pid(&self) -> u32 {
        self.server.first().pid()
    }

    fn target(&self) -> Target {
        self.server.newest().first_target().unwrap()
    }

    /// Waits until so many more requests have been answered.
    async fn answers(&self, count: u64) {
        let before = self.storm.snapshot().ok;
        let answered = async || (self.storm.snapshot().ok >= before + count).then_some(());
        eventually("the load to go on", BOUND, answered)
            .await
            .unwrap();
    }

    /// What was said of upgrades that failed.
    fn failures(&self) -> Vec<String> {
        let lines = self.server.stderr().into_iter();
        lines.filter(|line| line.contains(FAILED)).collect()
    }

    /// Asks for an upgrade.
    fn upgrade(&self) {
        self.server.first().signal(Signal::HUP).unwrap();
    }

    /// Asks for an upgrade in which the successor has this limit as soon as it runs.
    async fn limit_the_successor(&self, resource: Resource, limit: impl FnOnce(u32) -> u64) {
        let point = POINTS.iter().find(|point| point.name == "started").unwrap();
        assert_eq!(point.role, Role::Successor);
        plant(&self.faults, point, Action::StopAndGoOn).unwrap();
        self.upgrade();
        let stopped = faults::reached(&self.faults, point.name, BOUND);
        let stopped = stopped.await.unwrap();
        is_stopped(&stopped, BOUND).await.unwrap();
        let pid = stopped.pid();
        set(pid, resource, limit(pid));
        go_on(&self.faults, point.name, &stopped).unwrap();
    }

    /// The upgrade fails, for a reason that has these words, and nobody notices.
    async fn serves_on(&self, words: &[&str]) {
        let failed = self.server.stderr_line(FAILED, BOUND).await.unwrap();
        for word in words {
            assert!(failed.contains(word), "no {word:?} in {failed}");
        }
        let newest = self.server.newest();
        assert_eq!((newest.generation, newest.pid()), (0, self.pid()));
        self.answers(50).await;
    }

    /// With the limit out of the way the next upgrade succeeds, and until its end nothing is lost.
    async fn goes_on(self) {
        let answer = get(&self.target(), "/").await.unwrap();
        let who = (answer.head.pid, answer.head.close);
        assert_eq!(who, (Some(self.pid()), false));
        self.upgrade();
        self.server.ready(1, BOUND).await.unwrap();
        let exit = self.server.first().exit(BOUND).await.unwrap();
        assert_eq!(exit, Exit::Status(0));
        let report = self.storm.stop().await;
        assert_eq!(report.lost(), 0, "{report}");
        assert!(self.server.terminate(BOUND).await.unwrap().is_success());
    }
}

/// Sets the current limit of a process, and returns the one before.
fn set(pid: u32, resource: Resource, current: u64) -> u64 {
    let pid = Pid::from_raw(pid.try_into().unwrap());
    let limit = Rlimit {
        current: Some(current),
        // What it has inherited.
        maximum: getrlimit(resource).maximum,
    };
    let before = prlimit(pid, resource, limit).unwrap();
    before.current.unwrap_or(u64::MAX)
}

/// The limit with which a process can open so many descriptors more.
fn with_room_for(pid: u32, count: usize) -> u64 {
    let open = proc::descriptors(pid).unwrap();
    let free = (0..).filter(|number| open.iter().all(|(taken, _)| taken != number));
    free.take(count + 1).last().unwrap().try_into().unwrap()
}

/// Bytes of address space that a process has now.
fn address_space(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = text.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = kib.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap() * 1024
}

async fn a_predecessor_without_a_descriptor_left(way: Way) {
    let service = Service::start(way, 1000).await;
    // What is open stays so.
    let before = set(service.pid(), Resource::Nofile, 3);
    // It waits in the kernel's queue.
    let target = service.target();
    let waiting = tokio::spawn(async move { get(&target, "/").await });
    service.upgrade();
    let words = ["Too many open files", "LimitNOFILE="];
    service.serves_on(&words).await;
    set(service.pid(), Resource::Nofile, before);
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.head.pid, Some(service.pid()));
    service.goes_on().await;
}

/// One more each time, until they suffice; the successor inherits the limit.
async fn a_predecessor_with_too_few_descriptors_left(way: Way) {
    let service = Service::start(way, 1000).await;
    let pid = service.pid();
    let open = || proc::descriptors(pid).unwrap().len();
    let at_first = open();
    let before = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    for room in 0..ENOUGH {
        set(pid, Resource::Nofile, with_room_for(pid, room));
        service.upgrade();
        let ended = eventually("the upgrade to end", BOUND, async || {
            let failed = service.failures().len() > room;
            (failed || service.server.generations().len() > 1).then_some(failed)
        });
        if !ended.await.unwrap() {
            assert!(room > 0, "it needs none");
            break;
        }
        let failures = service.failures();
        let why = &failures[room];
        let named = ["LimitNOFILE=", "open files"];
        assert!(named.iter().any(|word| why.contains(word)), "{room}: {why}");
        let closed = async || (open() == at_first).then_some(());
        let what = format!("{at_first} descriptors after a failure with room for {room}");
        eventually(&what, BOUND, closed).await.unwrap();
    }
    let newest = service.server.newest();
    assert_eq!(newest.generation, 1, "{ENOUGH} do not suffice");
    set(newest.pid(), Resource::Nofile, before);
    let exit = service.server.first().exit(BOUND).await.unwrap();
    assert_eq!(exit, Exit::Status(0));
    let report = service.storm.stop().await;
    assert_eq!(report.lost(), 0, "{report}");
    assert!(service.server.terminate(BOUND).await.unwrap().is_success());
}

async fn a_successor_without_a_descriptor_left(way: Way) {
    let service = Service::start(way, 1000).await;
    service.limit_the_successor(Resource::Nofile, |_| 3).await;
    let words = ["open files", "LimitNOFILE="];
    service.serves_on(&words).await;
    service.goes_on().await;
}

/// The state does not fit in what it may have.
async fn a_successor_without_memory(way: Way) {
    let service = Service::start(way, 40_000_000).await;
    let limit = |pid| address_space(pid) + (16 << 20);
    service.limit_the_successor(Resource::As, limit).await;
    service.serves_on(&["memory allocation"]).await;
    service.goes_on().await;
}

/// Nor a thread, which the upgrade would be prepared on.
async fn a_predecessor_that_can_start_no_process(way: Way) {
    let pids = match Pids::make() {
        Ok(pids) => pids,
        Err(err) => return println!("skipped: a control group for pids cannot be made: {err}"),
    };
    let service = Service::start(way, 1000).await;
    pids.take(service.pid());
    pids.close();
    service.upgrade();
    let words = ["Resource temporarily unavailable", "TasksMax="];
    service.serves_on(&words).await;
    pids.open();
    service.goes_on().await;
}

for_either_loop! {
    a_predecessor_without_a_descriptor_left,
    a_predecessor_with_too_few_descriptors_left,
    a_successor_without_a_descriptor_left,
    a_successor_without_memory,
    a_predecessor_that_can_start_no_process,
}
