//! What is wrong is named, harms nobody, and may be tried again: addresses, programs, faults of a
//! successor, the environment, and death at any time.

mod support;

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use handover_tests::{
    harness::{Exit, Program, Server, Signal, eventually},
    load::{Clients, Config, Storm, get},
};

use self::support::{BOUND, Peer, Way, activated, answers, directory, listening};

// ===== at the start =====

/// It ends with a status of its own, and says what is wrong in these words.
async fn refuses(program: Program, words: &[&str]) {
    let server = program.spawn().unwrap();
    for word in words {
        server.stderr_line(word, BOUND).await.unwrap();
    }
    let exit = server.first().exit(BOUND).await.unwrap();
    assert!(matches!(exit, Exit::Status(1..=99)), "{exit}");
    assert_eq!(server.stdout(), Vec::<String>::new());
    let text = server.stderr().join("\n");
    assert!(!text.contains("panicked"), "{text}");
}

async fn an_address_in_use(way: Way) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = [address.as_str(), "in use"];
    refuses(listening(way.path(), &address), &words).await;
}

async fn an_address_of_another_host(way: Way) {
    refuses(listening(way.path(), "192.0.2.1:0"), &["192.0.2.1:0"]).await;
}

async fn an_address_that_is_none(way: Way) {
    for address in ["127.0.0.1", "127.0.0.1:99999", "[::1:0", "unix:", ":"] {
        refuses(listening(way.path(), address), &[address]).await;
    }
}

async fn a_socket_path_that_cannot_be(way: Way) {
    let (_kept, path) = directory();
    let missing = format!("unix:{}", path("no/such/directory").display());
    refuses(listening(way.path(), &missing), &[&missing]).await;
    let long = format!("unix:{}", path(&"x".repeat(200)).display());
    refuses(listening(way.path(), &long), &[&long]).await;
    fs::write(path("file"), "precious").unwrap();
    let file = format!("unix:{}", path("file").display());
    refuses(listening(way.path(), &file), &[&file]).await;
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");
}

// ===== the environment =====

/// The newest generation answers; returns its number.
async fn serves(server: &Server) -> u64 {
    let newest = server.newest();
    answers(&newest.first_target().unwrap(), &newest).await;
    newest.generation
}

async fn a_channel_that_is_garbage(way: Way) {
    for value in ["", "garbage", "1:3", "9:3:1", "1:-3:1", "1:3:99999999999"] {
        let program = way.program().env("HANDOVER_CHANNEL", value);
        refuses(program, &["HANDOVER_CHANNEL", value]).await;
    }
}

async fn a_channel_that_is_anothers(way: Way) {
    let us = std::process::id();
    // Not open; open and no socket; of a process that is not there.
    for value in [
        format!("1:99:{us}"),
        format!("1:0:{us}"),
        "1:0:4194304".into(),
    ] {
        let program = way.program().env("HANDOVER_CHANNEL", &value);
        let server = program.start().await.unwrap();
        assert_eq!(serves(&server).await, 0, "{value}");
        // Nor does it matter later.
        server.first().signal(Signal::HUP).unwrap();
        server.ready(1, BOUND).await.unwrap();
        assert_eq!(serves(&server).await, 1, "{value}");
    }
}

async fn a_socket_of_the_service_manager(way: Way) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // By its name, and by its address.
    for (name, listen) in [("web", "web=127.0.0.1:0"), ("", &address.to_string())] {
        let program = activated(way, name, listen).stdin(socket.try_clone().unwrap().into());
        let server = program.start().await.unwrap();
        assert_eq!(server.newest().tcp().unwrap(), address);
        assert_eq!(serves(&server).await, 0);
        // It is passed on like any other.
        server.first().signal(Signal::HUP).unwrap();
        let second = server.ready(1, BOUND).await.unwrap();
        assert_eq!(second.tcp().unwrap(), address);
        assert_eq!(serves(&server).await, 1);
        // Until it has gone it is the first that learns how the second ends.
        let exit = server.first().exit(BOUND).await.unwrap();
        assert_eq!(exit, Exit::Status(0));
        let exit = server.terminate(BOUND).await.unwrap();
        assert_eq!(exit, Exit::Status(0));
    }
}

async fn a_descriptor_that_is_no_socket(way: Way) {
    refuses(activated(way, "", "127.0.0.1:0"), &["LISTEN_FDS"]).await;
}

// ===== a successor that fails =====

/// A server whose program is a file of its own, under a small load.
struct Service {
    server: Server,
    storm: Storm,
    program: PathBuf,
    failures: usize,
    _kept: tempfile::TempDir,
}

impl Service {
    async fn start(way: Way, args: &[&str]) -> Self {
        let (kept, path) = directory();
        let program = path("server");
        fs::copy(way.path(), &program).unwrap();
        let server = listening(&program, "127.0.0.1:0")
            .args(args)
            .arg("--fault-file")
            .arg(path("fault"))
            .arg("--pid-file")
            .arg(path("app.pid"))
            .start()
            .await
            .unwrap();
        let mut clients = Clients::none();
        (clients.keepalive, clients.idle, clients.fresh) = (1, 4, 1);
        let mut config = Config::new(server.newest().tcp().unwrap()).with_clients(clients);
        config.keepalive_pause = Duration::from_millis(5);
        config.fresh_pause = Duration::from_millis(10);
        Self {
            server,
            storm: Storm::start(config),
            program,
            failures: 0,
            _kept: kept,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.program.with_file_name(name)
    }

    /// Asks for an upgrade, which fails, with these words in the log.
    async fn fails(&mut self, words: &[&str]) {
        let first = self.server.newest();
        first.process.signal(Signal::HUP).unwrap();
        self.failures += 1;
        let failures = self.failures;
        let said = || {
            let lines = self.server.stderr();
            let failed = |line: &&String| line.contains("upgrade failed, serving on");
            lines.iter().filter(failed).nth(failures - 1).cloned()
        };
        let line = eventually("the upgrade to fail", BOUND, async || said())
            .await
            .unwrap();
        for word in words {
            assert!(line.contains(word), "no {word:?} in {line}");
        }
        assert_eq!(serves(&self.server).await, first.generation);
        self.names(first.pid());
    }

    fn names(&self, pid: u32) {
        let text = fs::read_to_string(self.path("app.pid")).unwrap();
        assert_eq!(text, format!("{pid}\n"));
    }

    /// The next upgrade works, and nobody has noticed anything.
    async fn goes_on(self) {
        let first = self.server.newest();
        first.process.signal(Signal::HUP).unwrap();
        let second = self
            .server
            .ready(first.generation + 1, BOUND)
            .await
            .unwrap();
        assert_eq!(serves(&self.server).await, second.generation);
        assert_eq!(first.process.exit(BOUND).await.unwrap(), Exit::Status(0));
        self.names(second.pid());
        let report = self.storm.stop().await;
        assert_eq!(report.lost(), 0, "{report}");
        assert_eq!(self.server.terminate(BOUND).await.unwrap(), Exit::Status(0));
        assert_eq!(self.server.processes().unwrap(), []);
    }
}

async fn a_program_that_cannot_be_started(way: Way) {
    let mut service = Service::start(way, &[]).await;
    let (program, aside) = (service.program.clone(), service.path("aside"));
    let name = program.display().to_string();
    fs::rename(&program, &aside).unwrap();
    service.fails(&[&name, "No such file"]).await;
    fs::write(&program, "this is no program").unwrap();
    service.fails(&[&name, "Permission denied"]).await;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // It is given to a shell, as a shell does.
    service.fails(&["ended before it was ready", &name]).await;
    fs::remove_file(&program).unwrap();
    fs::create_dir(&program).unwrap();
    service.fails(&[&name, "Permission denied"]).await;
    fs::remove_dir(&program).unwrap();
    fs::rename(&aside, &program).unwrap();
    service.goes_on().await;
}

async fn a_start_directory_that_has_gone(way: Way) {
    let (_kept, path) = directory();
    let (directory, aside) = (path("release"), path("aside"));
    fs::create_dir(&directory).unwrap();
    fs::copy(way.path(), directory.join("server")).unwrap();
    let server = listening(Path::new("./server"), "127.0.0.1:0")
        .directory(&directory)
        .env("PWD", &directory)
        .start()
        .await
        .unwrap();
    fs::rename(&directory, &aside).unwrap();
    server.first().signal(Signal::HUP).unwrap();
    server
        .stderr_line("upgrade failed, serving on", BOUND)
        .await
        .unwrap();
    assert_eq!(serves(&server).await, 0);
    fs::rename(&aside, &directory).unwrap();
    server.first().signal(Signal::HUP).unwrap();
    server.ready(1, BOUND).await.unwrap();
    assert_eq!(serves(&server).await, 1);
}

async fn a_successor_that_fails_before_it_is_ready(way: Way) {
    let mut service = Service::start(way, &["--ready-timeout", "2"]).await;
    let fault = service.path("fault");
    let mut fails = async |name: &str, words: &[&str]| {
        fs::write(&fault, name).unwrap();
        service.fails(words).await;
    };
    fails("exit-before-ready", &["70"]).await;
    fails("panic-before-ready", &["the fault file says so"]).await;
    fails("hang-before-ready", &["2s"]).await;
    fails("no-such-fault", &["names no fault"]).await;
    fs::write(&fault, "").unwrap();
    service.goes_on().await;
}

// ===== death =====

/// A connection that keeps a generation until it is dropped.
async fn busy(server: &Server) -> Peer {
    let mut peer = Peer::connect(server).await;
    peer.get("/slow?ms=60000").await;
    peer.taken().await;
    peer
}

async fn a_predecessor_killed_before_its_successor_is_ready(way: Way) {
    let (_kept, path) = directory();
    let program = way.program().args(["--ready-delay", "0.5", "--pid-file"]);
    let server = program.arg(path("app.pid")).start().await.unwrap();
    let first = server.newest();
    first.process.signal(Signal::HUP).unwrap();
    server
        .stderr_line("successor starting", BOUND)
        .await
        .unwrap();
    first.process.signal(Signal::KILL).unwrap();
    // Queued until there is an heir: the socket was never closed.
    assert_eq!(
        get(&first.first_target().unwrap(), "/")
            .await
            .unwrap()
            .head
            .generation,
        Some(1)
    );
    let heir = server.ready(1, BOUND).await.unwrap();
    is_sole_heir(&server, heir.pid(), &path("app.pid")).await;
}

async fn a_predecessor_killed_while_it_drains(way: Way) {
    let (_kept, path) = directory();
    let program = way.program().arg("--pid-file").arg(path("app.pid"));
    let server = program.start().await.unwrap();
    let first = server.newest();
    let peer = busy(&server).await;
    first.process.signal(Signal::HUP).unwrap();
    let heir = server.ready(1, BOUND).await.unwrap();
    first.process.signal(Signal::KILL).unwrap();
    let exit = first.process.exit(BOUND).await.unwrap();
    assert_eq!(exit, Exit::Signal(Signal::KILL.as_raw()));
    drop(peer);
    is_sole_heir(&server, heir.pid(), &path("app.pid")).await;
}

/// It serves, has the pid file, and can be replaced like any other.
async fn is_sole_heir(server: &Server, pid: u32, pid_file: &Path) {
    assert_eq!(serves(server).await, 1);
    let text = fs::read_to_string(pid_file).unwrap();
    assert_eq!(text, format!("{pid}\n"));
    let heir = server.newest().process;
    heir.signal(Signal::HUP).unwrap();
    server.ready(2, BOUND).await.unwrap();
    assert_eq!(serves(server).await, 2);
    assert_eq!(heir.exit(BOUND).await.unwrap(), Exit::Status(0));
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
    assert_eq!(server.processes().unwrap(), []);
    assert!(!pid_file.exists());
}

async fn a_successor_killed_while_its_predecessor_drains(way: Way) {
    let (_kept, path) = directory();
    let program = way.program().arg("--pid-file").arg(path("app.pid"));
    let server = program.start().await.unwrap();
    let first = server.newest();
    let peer = busy(&server).await;
    first.process.signal(Signal::HUP).unwrap();
    let second = server.ready(1, BOUND).await.unwrap();
    server.stderr_line("successor serves", BOUND).await.unwrap();
    second.process.signal(Signal::KILL).unwrap();
    // Whoever comes now may have to wait, but is served.
    let target = first.first_target().unwrap();
    let answer = eventually("the predecessor to serve again", BOUND, async || {
        get(&target, "/").await.ok()
    })
    .await
    .unwrap();
    assert_eq!(answer.head.generation, Some(0));
    assert!(!answer.head.close, "the drain was not taken back");
    eventually("the pid file to be put right", BOUND, async || {
        let text = fs::read_to_string(path("app.pid")).ok()?;
        (text == format!("{}\n", first.pid())).then_some(())
    })
    .await
    .unwrap();
    drop(peer);
    // And the next one takes over as if nothing had happened.
    first.process.signal(Signal::HUP).unwrap();
    let third = eventually("another successor", BOUND, async || {
        let newest = server.newest();
        (newest.pid() != second.pid()).then_some(newest)
    })
    .await
    .unwrap();
    assert_eq!(third.generation, 1);
    assert_eq!(first.process.exit(BOUND).await.unwrap(), Exit::Status(0));
    assert_eq!(serves(&server).await, 1);
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
}

for_either_loop! {
    an_address_in_use,
    an_address_of_another_host,
    an_address_that_is_none,
    a_socket_path_that_cannot_be,
    a_channel_that_is_garbage,
    a_channel_that_is_anothers,
    a_socket_of_the_service_manager,
    a_descriptor_that_is_no_socket,
    a_program_that_cannot_be_started,
    a_start_directory_that_has_gone,
    a_successor_that_fails_before_it_is_ready,
    a_predecessor_killed_before_its_successor_is_ready,
    a_predecessor_killed_while_it_drains,
    a_successor_killed_while_its_predecessor_drains,
}
