//! The admin page in a browser, as somebody sees it who looks on and presses its buttons.
//!
//! With `HANDOVER_SHOTS=/some/directory` it is also kept how it looked.

mod support;

use std::{collections::BTreeMap, env, fs, net::SocketAddr, path::Path};

use handover_tests::{
    harness::{Exit, Server, Signal, eventually},
    load::Target,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
};

use self::support::{
    BOUND, Peer, Way, directory,
    foreign::{Client, node},
};

/// Rows of a table.
type Rows = Vec<Vec<String>>;

/// What can be seen on the page.
#[derive(Clone, Debug, Deserialize)]
struct Seen {
    title: String,
    standing: String,
    remaining: String,
    reason: String,
    step: String,
    progress: String,
    failed: String,
    outcome: String,
    token: bool,
    /// And whether each can be pressed.
    buttons: Vec<(String, bool)>,
    generations: Rows,
    holders: Rows,
    upgrades: Rows,
    listeners: Rows,
    /// How much of the chart's height each kind of connections has now, in percent.
    drawn: BTreeMap<String, i64>,
    wider: bool,
    faults: Vec<String>,
}

impl Seen {
    /// What is left until the deadline, in seconds.
    fn left(&self) -> f64 {
        let number = self.remaining.split(' ').next().unwrap();
        number
            .parse()
            .unwrap_or_else(|_| panic!("{:?}", self.remaining))
    }

    fn holder(&self, what: &str) -> &[String] {
        let row = self.holders.iter().find(|row| row[1] == what);
        row.unwrap_or_else(|| panic!("no {what}: {:?}", self.holders))
    }
}

/// A browser with the page open.
struct Page {
    browser: Client,
}

impl Page {
    async fn open(address: SocketAddr) -> Self {
        let mut command = node("admin_page.mjs");
        command.arg(format!("http://{address}/"));
        let browser = Client::start(command);
        let mut page = Self { browser };
        page.until("a running service", |seen| seen.standing == "running")
            .await;
        page
    }

    async fn tell(&mut self, what: Value) -> Seen {
        let seen: Seen = self.browser.ask(&what).await;
        assert_eq!(seen.faults, [""; 0], "{seen:?}");
        assert!(!seen.wider, "wider than its window: {seen:?}");
        seen
    }

    async fn look(&mut self) -> Seen {
        self.tell(json!({"look": true})).await
    }

    async fn press(&mut self, button: &str) {
        self.tell(json!({ "press": button })).await;
    }

    async fn shot(&mut self, name: &str) {
        if let Some(directory) = env::var_os("HANDOVER_SHOTS") {
            let path = Path::new(&directory).join(format!("{name}.png"));
            self.tell(json!({ "shot": path })).await;
        }
    }

    /// Looks until it is so; nor must it be seen on the way that nobody answers.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Seen) -> bool) -> Seen {
        eventually(what, BOUND, async || {
            let seen = self.look().await;
            assert_ne!(seen.standing, "no answer", "{seen:?}");
            is_so(&seen).then_some(seen)
        })
        .await
        .unwrap()
    }
}

/// What `ssh -L` is for a socket of another machine: a port of this one.
async fn forwarded(socket: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, socket) = (listener.local_addr().unwrap(), socket.to_owned());
    tokio::spawn(async move {
        while let Ok((mut browser, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                // The browser finds a service that is gone behind a port that is there.
                if let Ok(mut service) = UnixStream::connect(socket).await {
                    let _ = copy_bidirectional(&mut browser, &mut service).await;
                }
            });
        }
    });
    address
}

async fn start(args: &[&str]) -> Server {
    Way::Axum.program().args(args).start().await.unwrap()
}

fn admin(server: &Server) -> SocketAddr {
    match server.newest().target("admin").unwrap() {
        Target::Tcp(address) => address,
        other => panic!("{other:?}"),
    }
}

fn names(buttons: &[(String, bool)], can_be_pressed: bool) -> Vec<&str> {
    let buttons = buttons.iter().filter(|(_, can)| *can == can_be_pressed);
    buttons.map(|(name, _)| name.as_str()).collect()
}

const ALL: [&str; 3] = ["upgrade", "drain", "cut"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium, node and its packages; run by tests/all"]
async fn all_that_happens_to_a_service_is_seen_in_chromium() {
    let (_kept, path) = directory();
    let (socket, fault) = (path("admin"), path("fault"));
    let admin = format!("unix:{}", socket.display());
    let fault_file = fault.to_str().unwrap();
    // Long enough that a page, which hears once a second, hears of it.
    let delay = ["--ready-delay", "2.5"];
    let args = [&["--admin", &admin, "--fault-file", fault_file][..], &delay].concat();
    let server = start(&args).await;
    let mut page = Page::open(forwarded(&socket).await).await;

    let _idle = running(&server, &mut page).await;
    failing(&server, &mut page, &fault).await;
    // It ends by itself, when all has been looked at.
    let mut held = Peer::connect(&server).await;
    held.get("/slow?ms=15000").await;
    held.taken().await;
    upgraded(&server, &mut page).await;
    page.until("one generation", |seen| seen.generations.len() == 1)
        .await;
    stopping(&server, &mut page).await;
}

/// Connections, and what they wait for.
async fn running(server: &Server, page: &mut Page) -> Vec<Peer> {
    let mut idle = Vec::new();
    for _ in 0..12 {
        let mut peer = Peer::connect(server).await;
        peer.get("/").await;
        peer.until("ok\n").await;
        idle.push(peer);
    }
    let mut slow = Peer::connect(server).await;
    slow.get("/hold").await;
    slow.taken().await;
    let seen = page
        .until("all connections", |seen| {
            seen.generations[0][5] == "13" && seen.drawn["request"] > 0
        })
        .await;
    assert!(seen.drawn["idle"] > 5 * seen.drawn["request"], "{seen:?}");
    assert_eq!(seen.drawn["websocket"], 0, "{seen:?}");
    assert_eq!(seen.title, "Generation 0");
    let [row] = &seen.generations[..] else {
        panic!("{seen:?}")
    };
    let pid = server.first().pid().to_string();
    assert_eq!((&row[0][..], &row[2]), ("0", &pid), "{seen:?}");
    assert_eq!(row[1], env!("CARGO_PKG_VERSION"), "{seen:?}");
    assert_eq!((&row[3][..], &row[6][..]), ("running", "1"), "{seen:?}");
    let holder = seen.holder("GET /hold").to_vec();
    assert_eq!(holder[0], "request", "{seen:?}");
    assert_eq!(holder[2], slow.name(), "{seen:?}");
    assert!(holder[5].ends_with(" B"), "{seen:?}");
    assert_eq!(seen.listeners.len(), 2, "{seen:?}");
    assert_eq!(names(&seen.buttons, true), ALL, "{seen:?}");
    assert!(!seen.token, "{seen:?}");
    page.shot("running").await;
    page.until("time to go on", |seen| {
        seen.holder("GET /hold")[4] != holder[4]
    })
    .await;
    drop(slow);
    page.until("no holder", |seen| seen.holders.is_empty())
        .await;
    idle
}

/// An upgrade that fails is seen while it is tried, and why it failed afterwards.
async fn failing(server: &Server, page: &mut Page, fault: &Path) {
    fs::write(fault, "exit-before-ready").unwrap();
    server.newest().process.signal(Signal::HUP).unwrap();
    let seen = page.until("the step", |seen| seen.step == "initialising");
    let seen = seen.await;
    assert_eq!(seen.progress, "initialising for 2.5s", "{seen:?}");
    assert_eq!(seen.standing, "upgrading", "{seen:?}");
    page.shot("upgrading").await;
    let seen = page.until("its end", |seen| seen.step.is_empty()).await;
    assert_eq!(seen.standing, "running", "{seen:?}");
    assert_eq!(seen.failed, "(1 failed)", "{seen:?}");
    let [row] = &seen.upgrades[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(row[0], "1", "{seen:?}");
    assert!(row[2].contains("exit status: 70"), "{seen:?}");
    page.shot("failed").await;
    fs::remove_file(fault).unwrap();
}

/// By the button; and then there are two.
async fn upgraded(server: &Server, page: &mut Page) {
    let first = server.newest();
    page.press("upgrade").await;
    page.until("the step", |seen| seen.step == "initialising")
        .await;
    let second = server.ready(1, BOUND).await.unwrap();
    let seen = page.until("both", |seen| {
        seen.title == "Generation 1" && seen.generations.len() == 2 && !seen.remaining.is_empty()
    });
    let seen = seen.await;
    let is = |at: usize| {
        let row = &seen.generations[at];
        (row[0].as_str(), row[2].as_str(), row[3].as_str())
    };
    let (old, new) = (first.pid().to_string(), second.pid().to_string());
    assert_eq!(is(0), ("1", new.as_str(), "running"), "{seen:?}");
    assert_eq!(is(1), ("0", old.as_str(), "draining"), "{seen:?}");
    assert_eq!(seen.generations[1][6], "1", "{seen:?}");
    assert_eq!(seen.holder("GET /slow")[0], "request, generation 0");
    // The idle ones are with the new one, and what the old one finishes is in the picture, too.
    assert_eq!(seen.generations[0][5], "12", "{seen:?}");
    assert!(seen.drawn["request"] > 0, "{seen:?}");
    assert!(
        seen.remaining
            .ends_with(" until the deadline of generation 0"),
        "{seen:?}"
    );
    let left = seen.left();
    assert!(left <= 60.0, "{seen:?}");
    assert_eq!(seen.outcome, format!("successor: {new}"), "{seen:?}");
    assert_eq!(seen.upgrades.len(), 2, "{seen:?}");
    assert_eq!(seen.upgrades[0][2], "serves", "{seen:?}");
    page.shot("two").await;
    page.until("the countdown", |seen| seen.left() < left - 1.0)
        .await;
}

/// By the button as well.
async fn stopping(server: &Server, page: &mut Page) {
    let mut held = Peer::connect(server).await;
    held.get("/hold").await;
    held.taken().await;
    page.press("drain").await;
    let seen = page.until("the drain", |seen| seen.standing == "draining");
    let seen = seen.await;
    let left = seen.left();
    assert!(left <= 25.0, "{seen:?}");
    assert!(seen.remaining.ends_with(" until the deadline"), "{seen:?}");
    assert_ne!(seen.reason, "", "{seen:?}");
    page.until("the countdown", |seen| seen.left() < left - 1.0)
        .await;
    page.shot("draining").await;
    drop(held);
    // Not our child: its status is its predecessor's to know.
    server.newest().process.exit(BOUND).await.unwrap();
    let gone = eventually("no answer", BOUND, async || {
        let seen = page.look().await;
        (seen.standing == "no answer").then_some(seen)
    });
    let seen = gone.await.unwrap();
    assert_eq!(seen.remaining, "", "{seen:?}");
    page.shot("gone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium, node and its packages; run by tests/all"]
async fn buttons_in_chromium_are_for_those_with_the_token() {
    let server = start(&["--admin", "127.0.0.1:0", "--admin-token", "open sesame"]).await;
    let mut page = Page::open(admin(&server)).await;
    let seen = page.look().await;
    assert!(seen.token, "{seen:?}");
    assert_eq!(names(&seen.buttons, false), ALL, "{seen:?}");
    let seen = page.tell(json!({"token": "open"})).await;
    assert_eq!(names(&seen.buttons, true), ALL, "{seen:?}");
    page.press("upgrade").await;
    let seen = page
        .until("a no", |seen| seen.outcome.starts_with("denied"))
        .await;
    assert_eq!(seen.title, "Generation 0", "{seen:?}");
    page.shot("denied").await;
    page.tell(json!({"token": "open sesame"})).await;
    page.press("upgrade").await;
    let second = server.ready(1, BOUND).await.unwrap();
    page.until("the second", |seen| {
        seen.title == "Generation 1" && seen.outcome == format!("successor: {}", second.pid())
    })
    .await;
    // Not our child: its status is its predecessor's to know.
    server.terminate(BOUND).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium, node and its packages; run by tests/all"]
async fn there_are_no_buttons_in_chromium_where_nobody_may_press() {
    let server = start(&["--admin", "127.0.0.1:0"]).await;
    let mut page = Page::open(admin(&server)).await;
    let seen = page.look().await;
    assert_eq!((seen.buttons.len(), seen.token), (0, false), "{seen:?}");
    page.shot("looking").await;
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
}
