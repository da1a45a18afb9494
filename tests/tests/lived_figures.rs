//! Clients that stay, over upgrades: each is told, comes back, and misses nothing; and never do more of
//! them come back in a second than the policy has it.
//!
//! As they stand these are small checks. The figures of the book are of
//!
//! ```text
//! HANDOVER_STAYING=5000 HANDOVER_UPGRADES=2 \
//!     cargo test --release -p handover-tests --test lived_figures -- --nocapture many
//! HANDOVER_STAYING=1000 HANDOVER_CHROMIUM_HAS=100 HANDOVER_UPGRADES=20 \
//!     cargo test --release -p handover-tests --test lived_figures -- --nocapture --ignored over_http1
//! ```
//!
//! in which `HANDOVER_STAYING` is how many WebSockets there are, and how many EventSources; and
//! `HANDOVER_CHROMIUM_HAS` how many of each are in pages of Chromium. All else are clients of this
//! process.

mod support;

use std::time::Duration;

use handover_tests::{
    harness::{Exit, Server, Signal},
    load::Target,
    staying::{Browser, Seen, Staying},
    tls::Certificates,
};
use tokio::time::Instant;

use self::support::{
    BOUND, Way,
    foreign::{Client, node},
    over_tls,
};

/// In all, and in a second, so that what is measured is the coming back.
const MESSAGES: usize = 500;
/// The least that are told in a second, if there are as many.
const LEAST: usize = 100;
/// What a client waits before it comes back, half of it at least.
const RETRY: Duration = Duration::from_secs(2);

/// How many clients, how often.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// WebSockets, and as many EventSources.
    of_each: usize,
    /// So many of each in a browser.
    in_browser: usize,
    upgrades: u64,
    /// The window of the close-spread, in seconds.
    window: usize,
}

impl Scale {
    /// This one, or what the environment says.
    fn or_asked(mut self) -> Self {
        self.of_each = asked("HANDOVER_STAYING").unwrap_or(self.of_each);
        self.upgrades =
            asked("HANDOVER_UPGRADES").map_or(self.upgrades, |upgrades| upgrades as u64);
        if self.in_browser > 0 {
            self.in_browser = asked("HANDOVER_CHROMIUM_HAS").unwrap_or(self.in_browser);
        }
        self
    }

    fn clients(self) -> usize {
        2 * self.of_each
    }

    /// How many the policy tells in a second.
    fn rate(self) -> usize {
        (self.clients() / self.window).max(LEAST)
    }

    /// The most that may come back in any second: times that are drawn one by one have some noise.
    fn most(self) -> usize {
        let rate = self.rate() as f64;
        (rate + 5.0 * rate.sqrt()) as usize
    }

    /// It is run for a figure of the book, and so on a machine that has nothing else to do.
    fn is_figure(self) -> bool {
        self.of_each >= 1000
    }

    fn pause(self) -> Duration {
        let fair = Duration::from_secs(1) * self.clients() as u32 / MESSAGES as u32;
        fair.max(Duration::from_millis(100))
    }
}

fn asked(name: &str) -> Option<usize> {
    let number = std::env::var(name).ok()?;
    Some(
        number
            .parse()
            .unwrap_or_else(|_| panic!("{name}={number} is no number")),
    )
}

/// Those in the pages of a browser.
fn browser(scale: Scale, base: &str) -> Client {
    let mut command = node("browser.mjs");
    command
        .arg(base)
        .args([scale.in_browser, scale.in_browser].map(|number| number.to_string()));
    command.arg(scale.pause().as_millis().to_string());
    Client::start(command)
}

/// Starts them, and upgrades the server under them.
async fn over_upgrades(scale: Scale, server: Server, target: Target) {
    let plain = Staying::start(&target, scale.of_each - scale.in_browser, scale.pause());
    let base = match &target {
        Target::Tls(address, _) => format!("https://localhost:{}", address.port()),
        target => format!("http://{target}"),
    };
    let mut browser = (scale.in_browser > 0).then(|| browser(scale, &base));
    plain.arrived(server.first().pid()).await;
    if let Some(browser) = &mut browser {
        browser.arrived(0).await;
    }
    for generation in 1..=scale.upgrades {
        let began = Instant::now();
        let old = server.newest().process;
        old.signal(Signal::HUP).unwrap();
        let ready = server.ready(generation, BOUND).await.unwrap();
        plain.arrived(ready.pid()).await;
        if let Some(browser) = &mut browser {
            browser.arrived(generation).await;
        }
        let exit = old.exit(BOUND).await.unwrap();
        assert!(matches!(exit, Exit::Status(0) | Exit::Unknown), "{exit}");
        println!(
            "upgrade {generation}: all are back after {:.1?}",
            began.elapsed()
        );
    }
    let mut seen = plain.take();
    if let Some(browser) = browser {
        let browser: Browser = browser.stop().await;
        seen.add(&browser);
        has_waited_as_told(&browser.waits);
    }
    judge(scale, &seen, &server);
    assert!(server.terminate(BOUND).await.unwrap().is_success());
}

/// Fails if an `EventSource` of the browser has not heard `retry:`, without which it waits for 3 s, or
/// came back before.
fn has_waited_as_told(waits: &[u64]) {
    let least = waits.iter().min().unwrap();
    let half = RETRY.as_millis() as u64 / 2;
    // It counts from when it has read the end, and we from when the page is told of that.
    assert!(
        (half - 100..RETRY.as_millis() as u64).contains(least),
        "{waits:?}"
    );
}

fn judge(scale: Scale, seen: &Seen, server: &Server) {
    let each_time = scale.of_each * scale.upgrades as usize;
    let peak = seen.peak();
    let told = seen.codes.iter().filter(|code| **code == 1012).count();
    println!(
        "{} WebSockets and {} EventSources ({} of each in Chromium), {} upgrades: {told} closes with 1012, \
         {} ends of streams, {} reconnects, {peak} of them in one second at most ({} are told in one), {} \
         messages and events, {} failures",
        scale.of_each,
        scale.of_each,
        scale.in_browser,
        scale.upgrades,
        seen.ends,
        seen.reconnects.len(),
        scale.rate(),
        seen.came,
        seen.failures.len(),
    );
    assert_eq!(seen.failures, [""; 0]);
    assert_eq!(
        (told, seen.codes.len(), seen.ends),
        (each_time, each_time, each_time)
    );
    assert_eq!(seen.reconnects.len(), 2 * each_time);
    // On a busy machine the clients are late, too, and then come several at a time.
    let late = if scale.is_figure() { 1 } else { 2 };
    assert!(peak <= late * scale.most(), "{peak} within a second");
    let lines = server.stderr();
    let reports: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("drained in"))
        .collect();
    assert_eq!(reports.len() as u64, scale.upgrades, "{reports:?}");
    for report in reports {
        println!("{report}");
        let said = format!("; {} told to go, ", scale.clients());
        let (_, rest) = report
            .split_once(&said)
            .unwrap_or_else(|| panic!("{report}"));
        let (peak, rest) = rest.split_once(" in a second at most").unwrap();
        assert!(peak.parse::<usize>().unwrap() <= scale.most(), "{report}");
        assert!(
            rest.starts_with(&format!(" ({} expected)", scale.rate())),
            "{report}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_come_back_no_faster_than_the_policy_has_it() {
    let small = Scale {
        of_each: 200,
        in_browser: 0,
        upgrades: 2,
        window: 2,
    };
    let mut scale = small.or_asked();
    if scale.of_each != small.of_each {
        scale.window = 10;
    }
    let program = Way::Axum
        .program()
        .args(["--close-spread", &scale.window.to_string()]);
    let server = program.start().await.unwrap();
    let target = server.newest().first_target().unwrap();
    over_upgrades(scale, server, target).await;
}

/// In which the clients of a browser are few, and others are there so that there is a rate to keep.
const IN_BROWSER: Scale = Scale {
    of_each: 100,
    in_browser: 20,
    upgrades: 3,
    window: 10,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium, node and its packages; run by tests/all"]
async fn clients_in_chromium_miss_nothing_over_http1() {
    let server = Way::Axum.program().start().await.unwrap();
    let target = server.newest().first_target().unwrap();
    over_upgrades(IN_BROWSER.or_asked(), server, target).await;
}

/// The streams of events of a page are streams of one connection, which is told to go as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium, node and its packages; run by tests/all"]
async fn clients_in_chromium_miss_nothing_over_http2() {
    let certificates = Certificates::new().unwrap();
    let program = over_tls(Way::Axum.program(), &certificates);
    let server = program.start().await.unwrap();
    let address = server.newest().tcp().unwrap();
    let target = Target::Tls(address, certificates.client().unwrap());
    over_upgrades(IN_BROWSER.or_asked(), server, target).await;
}
