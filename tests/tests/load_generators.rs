//! The programs that people measure servers with notice neither an upgrade nor a stop. They are clients
//! of their own kind: ab keeps its connections though it speaks HTTP/1.0, and wrk has no pause between two
//! requests.
//!
//! h2load is not one of them: a request that it has not sent any more when the GOAWAY came counts as
//! failed where it is slow to read, and so it says of a server that answered every stream that it did not.

mod support;

use std::{net::TcpListener, process::Stdio};

use handover_tests::harness::{Exit, Process, Ready, Signal, established, eventually};
use tokio::process::{Child, Command};

use self::support::{BOUND, Way, activated};

const UPGRADES: u64 = 3;
const STOPS: usize = 2;
const CONNECTIONS: usize = 8;

for_each_acceptor! {
    #[ignore = "needs ab; run by tests/all"]
    ab_loses_nothing_over_upgrades,
    #[ignore = "needs ab; run by tests/all"]
    ab_loses_nothing_when_its_server_stops,
}

for_server! {
    ref_actix_web_foreign ActixForeign
    #[ignore = "needs ab; run by tests/all"]
    ab_loses_nothing_over_upgrades
    #[ignore = "needs ab; run by tests/all"]
    ab_loses_nothing_when_its_server_stops
}

for_either_loop! {
    #[ignore = "needs wrk; run by tests/all"]
    wrk_loses_nothing_over_upgrades,
}

/// One that asks a server all the time, until it is told to stop.
struct Generator {
    child: Child,
}

impl Generator {
    /// The arguments are told apart by blanks.
    fn start(program: &str, arguments: &str, server: &Ready) -> Self {
        let url = format!("http://{}/", server.tcp().unwrap());
        let child = Command::new(program)
            .args(arguments.split_whitespace())
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        Self { child }
    }

    fn ab(server: &Ready) -> Self {
        // For as long as it likes: it is interrupted. Bodies differ where a process names itself.
        let arguments = format!("-q -k -r -l -s 20 -c {CONNECTIONS} -t 600 -n 100000000");
        Self::start("ab", &arguments, server)
    }

    /// Waits until all its connections are at this process.
    async fn arrived(&mut self, server: &Ready) {
        let arrived = eventually("all connections to arrive", BOUND, async || {
            let ended = self.child.try_wait().unwrap();
            assert_eq!(ended, None, "the client has ended");
            (established(server.pid()).unwrap() >= CONNECTIONS).then_some(())
        });
        arrived.await.unwrap();
    }

    /// Tells it to stop, and returns what it has to say.
    async fn interrupt(self) -> Said {
        let pid = self.child.id().expect("it runs");
        Process::open(pid).unwrap().signal(Signal::INT).unwrap();
        let output = tokio::time::timeout(BOUND, self.child.wait_with_output()).await;
        let output = output.expect("it ends in time").unwrap();
        Said(String::from_utf8(output.stdout).unwrap())
    }
}

/// What a program says at its end.
struct Said(String);

impl Said {
    /// The number behind a label; 0 where it is left out, as what did not happen is.
    fn number(&self, label: &str) -> u64 {
        let Some((_, rest)) = self.0.split_once(label) else {
            return 0;
        };
        let number = rest
            .trim_start()
            .split(|c: char| !c.is_ascii_digit())
            .next();
        let number = number.unwrap_or_default().parse();
        number.unwrap_or_else(|error| panic!("{label} {error}: {}", self.0))
    }
}

fn assert_ab_lost_nothing(said: &Said) {
    let text = &said.0;
    assert_eq!(said.number("Failed requests:"), 0, "{text}");
    assert_eq!(said.number("Non-2xx responses:"), 0, "{text}");
    assert!(said.number("Complete requests:") > 100, "{text}");
    // The load is what it is to be.
    assert!(said.number("Keep-Alive requests:") > 100, "{text}");
}

/// Replaces the server under a load that has come from [`Generator::start`].
async fn over_upgrades(way: Way, start: fn(&Ready) -> Generator) -> Said {
    let server = way.program().start().await.unwrap();
    let mut generator = start(&server.newest());
    generator.arrived(&server.newest()).await;
    for generation in 1..=UPGRADES {
        let old = server.newest().process;
        old.signal(Signal::HUP).unwrap();
        let new = server.ready(generation, BOUND).await.unwrap();
        assert_eq!(old.exit(BOUND).await.unwrap(), Exit::Status(0));
        generator.arrived(&new).await;
    }
    let said = generator.interrupt().await;
    assert!(server.terminate(BOUND).await.unwrap().is_success());
    said
}

async fn ab_loses_nothing_over_upgrades(way: Way) {
    assert_ab_lost_nothing(&over_upgrades(way, Generator::ab).await);
}

/// Somebody keeps the socket, and so nobody is refused between two processes.
async fn ab_loses_nothing_when_its_server_stops(way: Way) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let start = || {
        let program = activated(way, "web", "web=127.0.0.1:0");
        program.stdin(socket.try_clone().unwrap().into()).start()
    };
    let mut server = start().await.unwrap();
    let mut generator = Generator::ab(&server.newest());
    generator.arrived(&server.newest()).await;
    for _ in 0..STOPS {
        assert!(server.terminate(BOUND).await.unwrap().is_success());
        server = start().await.unwrap();
        generator.arrived(&server.newest()).await;
    }
    assert_ab_lost_nothing(&generator.interrupt().await);
    assert!(server.terminate(BOUND).await.unwrap().is_success());
}

async fn wrk_loses_nothing_over_upgrades(way: Way) {
    let said = over_upgrades(way, |server| {
        let arguments = format!("-t 1 -c {CONNECTIONS} -d 600 --timeout 20");
        Generator::start("wrk", &arguments, server)
    });
    let said = said.await;
    let text = &said.0;
    // Either line is there only if there is something to say.
    assert!(!text.contains("Socket errors"), "{text}");
    assert!(!text.contains("Non-2xx"), "{text}");
    let done = text
        .lines()
        .find_map(|line| line.split_once(" requests in "));
    let done = done.and_then(|(number, _)| number.trim().parse().ok());
    assert!(done.is_some_and(|done: u64| done > 100), "{text}");
}
