//! Clients in other languages, with the connection pools that people use, notice no upgrade.
//!
//! What they ask is in `clients/`; they retry nothing, or ask also what their languages retry never.

mod support;

use handover_tests::{
    harness::{Server, Signal},
    tls::Certificates,
};
use serde::Deserialize;
use tokio::process::Command;

use self::support::{
    BOUND,
    foreign::{Client, go, java, node, php, python, ruby},
    listening, over_tls,
};

const UPGRADES: u64 = 5;

const REF_AXUM: &str = env!("CARGO_BIN_EXE_ref-axum");
const REF_AXUM_FOREIGN: &str = env!("CARGO_BIN_EXE_ref-axum-foreign");
const REF_ACTIX_WEB: &str = env!("CARGO_BIN_EXE_ref-actix-web");

#[tokio::test]
#[ignore = "needs Python packages; run by tests/all"]
async fn python_clients_of_our_loop_lose_nothing() {
    over_upgrades(REF_AXUM, python("keepalive.py")).await;
}

#[tokio::test]
#[ignore = "needs Python packages; run by tests/all"]
async fn python_clients_of_axums_loop_lose_nothing() {
    over_upgrades(REF_AXUM_FOREIGN, python("keepalive.py")).await;
}

#[tokio::test]
#[ignore = "needs node; run by tests/all"]
async fn node_clients_of_our_loop_lose_nothing() {
    over_upgrades(REF_AXUM, node("keepalive.mjs")).await;
}

#[tokio::test]
#[ignore = "needs node; run by tests/all"]
async fn node_clients_of_axums_loop_lose_nothing() {
    over_upgrades(REF_AXUM_FOREIGN, node("keepalive.mjs")).await;
}

#[tokio::test]
#[ignore = "needs Python packages; run by tests/all"]
async fn python_clients_of_our_loop_lose_nothing_over_tls() {
    over_upgrades_and_tls(REF_AXUM, python("keepalive.py")).await;
}

#[tokio::test]
#[ignore = "needs Python packages; run by tests/all"]
async fn python_clients_of_axums_loop_lose_nothing_over_tls() {
    over_upgrades_and_tls(REF_AXUM_FOREIGN, python("keepalive.py")).await;
}

#[tokio::test]
#[ignore = "needs node; run by tests/all"]
async fn node_clients_of_our_loop_lose_nothing_over_tls() {
    over_upgrades_and_tls(REF_AXUM, node("keepalive.mjs")).await;
}

#[tokio::test]
#[ignore = "needs node; run by tests/all"]
async fn node_clients_of_axums_loop_lose_nothing_over_tls() {
    over_upgrades_and_tls(REF_AXUM_FOREIGN, node("keepalive.mjs")).await;
}

#[tokio::test]
#[ignore = "needs Go; run by tests/all"]
async fn go_clients_of_our_loop_lose_nothing() {
    over_upgrades(REF_AXUM, go("keepalive.go")).await;
}

#[tokio::test]
#[ignore = "needs Go; run by tests/all"]
async fn go_clients_of_axums_loop_lose_nothing() {
    over_upgrades(REF_AXUM_FOREIGN, go("keepalive.go")).await;
}

#[tokio::test]
#[ignore = "needs Java; run by tests/all"]
async fn java_clients_of_our_loop_lose_nothing() {
    over_upgrades(REF_AXUM, java("Keepalive.java")).await;
}

#[tokio::test]
#[ignore = "needs Java; run by tests/all"]
async fn java_clients_of_axums_loop_lose_nothing() {
    over_upgrades(REF_AXUM_FOREIGN, java("Keepalive.java")).await;
}

/// They offer to go on in HTTP/2 in requests that have a body, too.
#[tokio::test]
#[ignore = "needs Java; run by tests/all"]
async fn java_clients_of_actix_web_lose_nothing() {
    over_upgrades(REF_ACTIX_WEB, java("Keepalive.java")).await;
}

#[tokio::test]
#[ignore = "needs Ruby; run by tests/all"]
async fn ruby_clients_of_our_loop_lose_nothing() {
    over_upgrades(REF_AXUM, ruby("keepalive.rb")).await;
}

#[tokio::test]
#[ignore = "needs Ruby; run by tests/all"]
async fn ruby_clients_of_axums_loop_lose_nothing() {
    over_upgrades(REF_AXUM_FOREIGN, ruby("keepalive.rb")).await;
}

#[tokio::test]
#[ignore = "needs PHP with curl; run by tests/all"]
async fn php_clients_of_our_loop_lose_nothing() {
    over_upgrades(REF_AXUM, php("keepalive.php")).await;
}

#[tokio::test]
#[ignore = "needs PHP with curl; run by tests/all"]
async fn php_clients_of_axums_loop_lose_nothing() {
    over_upgrades(REF_AXUM_FOREIGN, php("keepalive.php")).await;
}

/// In HTTP/2.
#[tokio::test]
#[ignore = "needs Go; run by tests/all"]
async fn go_clients_of_our_loop_lose_nothing_over_tls() {
    over_upgrades_and_tls(REF_AXUM, go("keepalive.go")).await;
}

/// In HTTP/2.
#[tokio::test]
#[ignore = "needs Go; run by tests/all"]
async fn go_clients_of_axums_loop_lose_nothing_over_tls() {
    over_upgrades_and_tls(REF_AXUM_FOREIGN, go("keepalive.go")).await;
}

/// What a client says at its end.
#[derive(Debug, Deserialize)]
struct Outcome {
    requests: u64,
    /// How many answers told it to close.
    told: u64,
    failures: Vec<String>,
}

async fn over_upgrades(program: &str, mut client: Command) {
    let server = listening(program.as_ref(), "127.0.0.1:0")
        .start()
        .await
        .unwrap();
    client.arg(format!("http://{}", server.newest().tcp().unwrap()));
    upgraded(server, client).await;
}

async fn over_upgrades_and_tls(program: &str, mut client: Command) {
    let certificates = Certificates::new().unwrap();
    let program = over_tls(listening(program.as_ref(), "127.0.0.1:0"), &certificates);
    let server = program.start().await.unwrap();
    let port = server.newest().tcp().unwrap().port();
    client.arg(format!("https://localhost:{port}"));
    client.arg(certificates.authority());
    upgraded(server, client).await;
}

async fn upgraded(server: Server, client: Command) {
    let mut client = Client::start(client);
    client.arrived(server.newest().pid()).await;
    for generation in 1..=UPGRADES {
        let old = server.newest().process;
        old.signal(Signal::HUP).unwrap();
        let new = server.ready(generation, BOUND).await.unwrap();
        client.arrived(new.pid()).await;
        let exit = old.exit(BOUND).await.unwrap();
        assert!(exit.is_success(), "generation {}: {exit}", generation - 1);
    }
    let outcome: Outcome = client.stop().await;
    eprintln!("{} requests, {} told", outcome.requests, outcome.told);
    assert_eq!(
        outcome.failures, [""; 0],
        "of {} requests",
        outcome.requests
    );
    assert!(outcome.requests > 100, "only {} requests", outcome.requests);
    assert!(server.terminate(BOUND).await.unwrap().is_success());
}
