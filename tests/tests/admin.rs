//! The admin surface of a real server, from outside.

mod support;

use std::{net::SocketAddr, path::Path};

use handover_tests::{
    harness::{Exit, Server, Signal, eventually},
    load::Target,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use self::support::{BOUND, Peer, Way, directory};

async fn start(args: &[&str]) -> Server {
    let program = Way::Axum.program().args(["--admin", "127.0.0.1:0"]);
    program.args(args).start().await.unwrap()
}

fn admin(server: &Server) -> SocketAddr {
    match server.newest().target("admin").unwrap() {
        Target::Tcp(address) => address,
        other => panic!("{other:?}"),
    }
}

/// One request on a connection of its own: the status, and all that came.
async fn ask_over(io: impl AsyncReadExt + AsyncWriteExt + Unpin, head: &str) -> (u16, String) {
    ask_by(io, "handover.test", head).await
}

/// The same by this name.
async fn ask_by(
    mut io: impl AsyncReadExt + AsyncWriteExt + Unpin,
    host: &str,
    head: &str,
) -> (u16, String) {
    let head = format!("{head}\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    io.write_all(head.as_bytes()).await.unwrap();
    let mut all = String::new();
    timeout(BOUND, io.read_to_string(&mut all))
        .await
        .expect("an end")
        .unwrap();
    let status = all.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{all:?}")), all)
}

async fn ask(address: SocketAddr, head: &str) -> (u16, String) {
    ask_over(TcpStream::connect(address).await.unwrap(), head).await
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1")).await
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

async fn status(address: SocketAddr) -> Value {
    let (code, answer) = get(address, "/status").await;
    assert_eq!(code, 200, "{answer}");
    serde_json::from_str(body(&answer)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_says_so_until_the_end_and_what_it_waits_for() {
    let server = start(&["--lame-duck", "0.2"]).await;
    let address = admin(&server);
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(get(address, path).await.0, 200, "{path}");
    }
    let mut slow = Peer::connect(&server).await;
    slow.get("/slow?ms=3000").await;
    slow.taken().await;
    server.newest().process.signal(Signal::TERM).unwrap();
    eventually("not to be ready", BOUND, async || {
        (get(address, "/readyz").await.0 == 503).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(get(address, "/livez").await.0, 200);
    let status = eventually("the drain", BOUND, async || {
        let status = status(address).await;
        (status["standing"] == "draining").then_some(status)
    });
    let status = status.await.unwrap();
    let holder = &status["holders"][0];
    assert_eq!(holder["what"], "GET /slow", "{status}");
    assert_eq!(holder["peer"], slow.name(), "{status}");
    assert_eq!(holder["traffic"]["sent"], 0, "{status}");
    assert!(
        holder["traffic"]["received"].as_u64().unwrap() > 20,
        "{status}"
    );
    assert!(
        holder["traffic"]["quiet_seconds"].as_f64().is_some(),
        "{status}"
    );
    assert!(holder["listener"].as_str().is_some(), "{status}");
    let (_, metrics) = get(address, "/metrics").await;
    for line in [
        "handover_ready 0\n",
        "handover_standing{standing=\"draining\"} 1\n",
        "handover_holders{kind=\"request\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    slow.until("ok\n").await;
    let exit = server.newest().process.exit(BOUND).await.unwrap();
    assert_eq!(exit, Exit::Status(0));
}

/// The listener goes to the successor, which also speaks for the one before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_an_upgrade_the_newest_answers_for_both() {
    let server = start(&[]).await;
    let (address, first) = (admin(&server), server.newest());
    let mut slow = Peer::connect(&server).await;
    slow.get("/slow?ms=4000").await;
    slow.taken().await;
    // Kept open, and moved like any other.
    let mut kept = Peer::to(address, None).await.unwrap();
    kept.get("/readyz").await;
    kept.until("ok\n").await;
    let mut events = Peer::to(address, None).await.unwrap();
    events.get("/events").await;
    events.until(&format!("\"pid\":{}", first.pid())).await;

    first.process.signal(Signal::HUP).unwrap();
    let second = server.ready(1, BOUND).await.unwrap();
    assert_eq!(admin(&server), address);
    // Its stream ends, so that a browser connects again.
    events.until("\r\n0\r\n\r\n").await;
    let both = eventually("word of the older one", BOUND, async || {
        let status = status(address).await;
        let requests = &status["older"][0]["held"]["requests"];
        (status["pid"] == second.pid() && *requests == 1).then_some(status)
    });
    let both = both.await.unwrap();
    assert_eq!(both["older"][0]["pid"], first.pid(), "{both}");
    assert!(
        both["older"][0]["remaining_seconds"].as_f64().unwrap() > 0.0,
        "{both}"
    );
    assert!(
        both["older"][0]["age_seconds"].as_f64().unwrap() > 0.0,
        "{both}"
    );
    let held = &both["older"][0]["held"]["oldest"][0];
    assert_eq!(held["what"], "GET /slow", "{both}");
    assert!(held["traffic"]["received"].as_u64().unwrap() > 20, "{both}");
    assert_eq!(both["recent_upgrades"][0]["generation"], 1, "{both}");
    assert_eq!(both["recent_upgrades"][0]["error"], Value::Null, "{both}");
    kept.get("/readyz").await;
    kept.until("ok\n").await;
    let (_, metrics) = get(address, "/metrics").await;
    let line = "handover_upgrades_total{outcome=\"served\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
    slow.until("ok\n").await;
    assert_eq!(first.process.exit(BOUND).await.unwrap(), Exit::Status(0));
    drop((slow, kept, events));
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_upgrade_is_remembered_by_the_next_generation() {
    let (_kept, path) = directory();
    let fault = path("fault");
    let server = start(&["--fault-file", fault.to_str().unwrap()]).await;
    let address = admin(&server);
    std::fs::write(&fault, "exit-before-ready").unwrap();
    server.newest().process.signal(Signal::HUP).unwrap();
    eventually("the failure", BOUND, async || {
        (status(address).await["failed_upgrades"] == 1).then_some(())
    })
    .await
    .unwrap();
    std::fs::remove_file(&fault).unwrap();
    server.newest().process.signal(Signal::HUP).unwrap();
    let second = server.ready(1, BOUND).await.unwrap();
    let status = eventually("the second", BOUND, async || {
        let status = status(address).await;
        (status["pid"] == second.pid()).then_some(status)
    });
    let status = status.await.unwrap();
    let outcomes: Vec<_> = status["recent_upgrades"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(outcomes.len(), 2, "{status}");
    assert_eq!(outcomes[0]["error"], Value::Null);
    for outcome in &outcomes {
        assert_eq!(outcome["generation"], 1, "{status}");
    }
    assert!(
        outcomes[1]["error"].as_str().unwrap().contains("ended"),
        "{status}"
    );
    assert_eq!(status["failed_upgrades"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buttons_are_for_those_with_the_token() {
    let server = start(&["--admin-token", "open sesame"]).await;
    let address = admin(&server);
    for head in [
        "POST /upgrade HTTP/1.1",
        "POST /drain HTTP/1.1\r\nauthorization: Bearer open",
        "POST /cut HTTP/1.1\r\nauthorization: Bearer open sesame!",
        "POST /cut HTTP/1.1\r\nauthorization: Basic open sesame",
    ] {
        assert_eq!(ask(address, head).await.0, 401, "{head}");
    }
    assert_eq!(get(address, "/upgrade").await.0, 405);
    assert_eq!(ask(address, "POST /status HTTP/1.1").await.0, 405);
    let head = "POST /upgrade HTTP/1.1\r\nauthorization: Bearer open sesame";
    let (code, answer) = ask(address, head).await;
    assert_eq!(code, 200, "{answer}");
    let second = server.ready(1, BOUND).await.unwrap();
    assert_eq!(body(&answer), format!("{{\"successor\":{}}}", second.pid()));
    let head = "POST /drain HTTP/1.1\r\nauthorization: Bearer open sesame";
    assert_eq!(ask(address, head).await.0, 202);
    // Not our child: its status is its predecessor's to know.
    second.process.exit(BOUND).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_only_a_unix_socket_has_buttons() {
    let server = start(&[]).await;
    let (code, answer) = ask(admin(&server), "POST /drain HTTP/1.1").await;
    assert_eq!(code, 403, "{answer}");
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));

    let (_kept, path) = directory();
    let socket = path("admin");
    let program = Way::Axum.program().args(["--admin", &unix(&socket)]);
    let server = program.start().await.unwrap();
    // What a browser sends for a page of another site, through a port that is forwarded to the socket.
    for (origin, host) in [
        ("https://elsewhere.test", "localhost:9000"),
        ("http://localhost:81", "localhost:9000"),
        ("null", "localhost:9000"),
        // Of a name that leads here.
        ("http://elsewhere.test:9000", "elsewhere.test:9000"),
        (
            "http://127.0.0.1.elsewhere.test",
            "127.0.0.1.elsewhere.test",
        ),
    ] {
        let io = UnixStream::connect(&socket).await.unwrap();
        let head = format!("POST /drain HTTP/1.1\r\norigin: {origin}");
        let (code, answer) = ask_by(io, host, &head).await;
        assert_eq!(code, 403, "{origin}: {answer}");
    }
    let io = UnixStream::connect(&socket).await.unwrap();
    let head = "POST /drain HTTP/1.1\r\norigin: http://localhost";
    let (code, answer) = ask_by(io, "localhost", head).await;
    assert_eq!(code, 202, "{answer}");
    let exit = server.newest().process.exit(BOUND).await.unwrap();
    assert_eq!(exit, Exit::Status(0));
    assert!(!socket.exists());
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_for_browsers_and_json_for_the_others() {
    let server = start(&[]).await;
    let address = admin(&server);
    let browser = "GET /status HTTP/1.1\r\naccept: text/html,application/xhtml+xml,*/*;q=0.8";
    for (code, answer) in [get(address, "/").await, ask(address, browser).await] {
        assert_eq!(code, 200);
        assert!(answer.contains("content-type: text/html"), "{answer}");
        // Nothing is fetched from elsewhere.
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!answer.contains(outside), "{outside}");
        }
    }
    assert_eq!(status(address).await["standing"], "running");
    assert_eq!(get(address, "/nowhere").await.0, 404);
    let (code, answer) = ask(address, "HEAD / HTTP/1.1").await;
    assert_eq!((code, body(&answer)), (200, ""));
}
