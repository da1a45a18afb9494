//! A real server is upgraded over its control socket, by who waits for the outcome.

mod support;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use handover::{
    Status,
    control::{Event, Request, UpgradeRequest},
    status::Standing,
};
use handover_supervisor::Client;
use handover_tests::{
    harness::{Exit, Server, eventually},
    load::{Clients, Config, Storm},
};
use tokio::{sync::mpsc, time::timeout};

use self::support::{BOUND, Peer, Way, directory};

async fn start(control: &Path, args: &[&str]) -> Server {
    let program = Way::Axum.program().arg("--control").arg(control);
    program.args(args).start().await.unwrap()
}

/// Asks, in a thread. The events come as they are said; at the end the channel is closed.
fn ask(control: PathBuf, request: Request) -> mpsc::UnboundedReceiver<Event> {
    let (send, events) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let deadline = Instant::now() + 3 * BOUND;
        for event in Client::new(control).ask(&request, deadline).unwrap() {
            let _ = send.send(event.unwrap());
        }
    });
    events
}

async fn until(
    events: &mut mpsc::UnboundedReceiver<Event>,
    what: &str,
    fits: impl Fn(&Event) -> bool,
) -> Event {
    let mut seen = Vec::new();
    loop {
        let event = timeout(BOUND, events.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("no {what} in time, only {seen:?}"));
        let event = event.unwrap_or_else(|| panic!("no {what}, only {seen:?}"));
        if fits(&event) {
            return event;
        }
        seen.push(event);
    }
}

fn upgrade() -> Request {
    Request::Upgrade(UpgradeRequest::default())
}

async fn status(control: &Path) -> Status {
    let mut events = ask(control.to_owned(), Request::Status);
    match until(&mut events, "status", Event::is_last).await {
        Event::Status { status, .. } => *status,
        other => panic!("{other:?}"),
    }
}

/// Fails if the last line does not come when the last request has been answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_seen_in_the_drain_and_answered() {
    let (_kept, path) = directory();
    let control = path("control");
    let server = start(&control, &[]).await;
    let first = server.newest();
    let mut slow = Peer::connect(&server).await;
    slow.get("/slow?ms=1500").await;
    eventually("the request to be seen", BOUND, async || {
        (status(&control).await.held.requests == 1).then_some(())
    })
    .await
    .unwrap();

    let mut events = ask(control.clone(), upgrade());
    let busy = |event: &Event| {
        matches!(event, Event::Draining { held, .. }
            if held.requests == 1 && held.longest > Duration::ZERO)
    };
    until(&mut events, "request that is waited for", busy).await;
    assert_eq!(status(&control).await.generation, 1);
    let answer = slow.until("ok\n").await;
    assert!(answer.contains(&format!("pid={}", first.pid())), "{answer}");
    drop(slow);
    let drained = until(&mut events, "outcome", Event::is_last).await;
    assert!(
        matches!(drained, Event::Drained { cut: 0, .. }),
        "{drained:?}"
    );
    assert_eq!(first.process.exit(BOUND).await.unwrap(), Exit::Status(0));
    server.terminate(BOUND).await.unwrap();
    assert!(!control.exists(), "the last generation removes it");
}

/// Fails if an answer gets lost in one of many hand-overs, or a request does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_upgrade_under_load_is_heard_to_its_end() {
    let (_kept, path) = directory();
    let control = path("control");
    let server = start(&control, &[]).await;
    let mut clients = Clients::none();
    (clients.keepalive, clients.idle, clients.fresh) = (2, 8, 2);
    let mut config = Config::new(server.newest().tcp().unwrap()).with_clients(clients);
    config.keepalive_pause = Duration::from_millis(5);
    config.fresh_pause = Duration::from_millis(10);
    let storm = Storm::start(config);
    for generation in 0..10 {
        let request = UpgradeRequest::default().if_generation(generation);
        let mut events = ask(control.clone(), Request::Upgrade(request));
        let outcome = until(&mut events, "outcome", Event::is_last).await;
        assert!(
            matches!(outcome, Event::Drained { cut: 0, .. }),
            "{outcome:?}"
        );
    }
    let report = storm.stop().await;
    assert_eq!(report.lost(), 0, "{report}");
    server.terminate(BOUND).await.unwrap();
}

/// Endless requests hold each generation open; only so many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_requests_hold_only_so_many_generations() {
    let (_kept, path) = directory();
    let control = path("control");
    let server = start(&control, &["--max-draining", "2"]).await;
    let mut held = Vec::new();
    for generation in 0..4 {
        let newest = server.ready(generation, BOUND).await.unwrap();
        eventually("the newest to be asked", BOUND, async || {
            let status = status(&control).await;
            (status.pid == newest.pid() && status.standing == Standing::Running).then_some(())
        })
        .await
        .unwrap();
        let mut peer = Peer::connect(&server).await;
        peer.get("/hold").await;
        eventually("the request to be seen", BOUND, async || {
            (status(&control).await.held.requests == 1).then_some(())
        })
        .await
        .unwrap();
        held.push(peer);
        if generation < 3 {
            let mut events = ask(control.clone(), upgrade());
            until(&mut events, "draining", |event| {
                matches!(event, Event::Draining { .. })
            })
            .await;
        }
    }
    let generations = server.generations();
    // The oldest, and nobody else; who waited for it is told.
    generations[0].process.exit(BOUND).await.unwrap();
    held[0].until("503 ").await;
    let older = eventually("two to be known", BOUND, async || {
        let older = status(&control).await.older;
        let known = older.len() == 2 && older.iter().all(|older| older.held.is_some());
        known.then_some(older)
    })
    .await
    .unwrap();
    for (older, ready) in older.iter().zip(&generations[1..3]) {
        assert_eq!(
            (older.pid, older.generation),
            (ready.pid(), ready.generation)
        );
        assert_eq!(older.held.as_ref().unwrap().requests, 1);
        assert!(ready.process.is_running());
    }
    let mut cut = ask(control.clone(), Request::Cut);
    let cut = until(&mut cut, "cut", Event::is_last).await;
    assert!(
        matches!(&cut, Event::Cut { pids, .. } if pids.len() == 2),
        "{cut:?}"
    );
    for ready in &generations[1..3] {
        ready.process.exit(BOUND).await.unwrap();
    }
    assert!(generations[3].process.is_running());
    drop(held);
    server.terminate(BOUND).await.unwrap();
}
