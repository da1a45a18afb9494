//! gRPC clients notice no upgrade: no status but OK for a unary call, and streams end between two
//! messages, with trailers, and go on at the successor.
//!
//! Ten upgrades each. For a hundred, as the book has them:
//! `HANDOVER_TEST_UPGRADES=100 cargo test -p handover-tests --test grpc_clients -- --include-ignored`.

mod support;

use std::time::Duration;
#[cfg(target_os = "linux")]
use std::{panic::resume_unwind, thread};

#[cfg(target_os = "linux")]
use handover_tests::network::DelayLine;
use handover_tests::{
    grpc::Outcome,
    harness::{Exit, Program, Server},
    tls::Certificates,
};

use self::support::{
    BOUND,
    foreign::{node, python},
    grpc::{Callers, Unnoticed, over_upgrades},
    listening, over_tls,
};

const OURS: &str = env!("CARGO_BIN_EXE_ref-tonic");
const FOREIGN: &str = env!("CARGO_BIN_EXE_ref-tonic-foreign");

const EACH_WAY: Duration = Duration::from_millis(5);

async fn start(program: &str, address: &str) -> Server {
    let program = Program::new(program).args(["--workers", "2", "--listen", address]);
    program.start().await.unwrap()
}

async fn upgraded(program: &str, callers: impl FnOnce(&Server) -> Callers) -> Outcome {
    let server = start(program, "127.0.0.1:0").await;
    let outcome = over_upgrades(&server, callers(&server)).await;
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
    outcome
}

/// The same, over TLS.
async fn upgraded_over_tls(
    program: &str,
    callers: impl FnOnce(&Server, &Certificates) -> Callers,
) -> Outcome {
    let certificates = Certificates::new().unwrap();
    let program = over_tls(listening(program.as_ref(), "127.0.0.1:0"), &certificates);
    let server = program.start().await.unwrap();
    let outcome = over_upgrades(&server, callers(&server, &certificates)).await;
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
    outcome
}

/// The same, with the server at one end of a delay line and the callers at the other.
#[cfg(target_os = "linux")]
fn upgraded_across_a_delay_line(callers: fn(&Server) -> Callers) -> Outcome {
    // A thread of its own, since it does not come back to where it was.
    let drive = move || {
        let line = DelayLine::lay(EACH_WAY).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            line.server().enter().unwrap();
            let server = start(OURS, &format!("{}:0", line.server().address())).await;
            line.client().enter().unwrap();
            let outcome = over_upgrades(&server, callers(&server)).await;
            assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
            outcome
        })
    };
    let thread = thread::spawn(drive);
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tonic_s_client_with_the_layer_notices_no_upgrade_of_our_loop() {
    let outcome = upgraded(OURS, |server| Callers::tonic(server, true)).await;
    outcome.assert_unnoticed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tonic_s_client_with_the_layer_notices_no_upgrade_of_tonic_s_loop() {
    let outcome = upgraded(FOREIGN, |server| Callers::tonic(server, true)).await;
    outcome.assert_unnoticed();
}

#[tokio::test]
#[ignore = "needs Python packages; run by tests/all"]
async fn python_clients_of_grpc_notice_no_upgrade_of_our_loop() {
    let client = |server: &Server| Callers::others(python("grpc_calls.py"), server);
    upgraded(OURS, client).await.assert_unnoticed();
}

#[tokio::test]
#[ignore = "needs Python packages; run by tests/all"]
async fn python_clients_of_grpc_notice_no_upgrade_of_tonic_s_loop() {
    let client = |server: &Server| Callers::others(python("grpc_calls.py"), server);
    upgraded(FOREIGN, client).await.assert_unnoticed();
}

#[tokio::test]
#[ignore = "needs node and its packages; run by tests/all"]
async fn node_clients_of_grpc_notice_no_upgrade_of_our_loop() {
    let client = |server: &Server| Callers::others(node("grpc_calls.mjs"), server);
    upgraded(OURS, client).await.assert_unnoticed();
}

#[tokio::test]
#[ignore = "needs node and its packages; run by tests/all"]
async fn node_clients_of_grpc_notice_no_upgrade_of_tonic_s_loop() {
    let client = |server: &Server| Callers::others(node("grpc_calls.mjs"), server);
    upgraded(FOREIGN, client).await.assert_unnoticed();
}

/// Each connection is renewed as soon as its age is over, under load. The age is longer than a client on
/// a busy machine needs to read a GOAWAY: one that sends a call twice in vain gives up.
#[cfg(target_os = "linux")]
mod connections_that_get_old {
    use super::{support::grpc::over_renewals, *};

    async fn renewed(callers: impl FnOnce(&Server) -> Callers) {
        let program = Program::new(OURS).args(["--workers", "2", "--listen", "127.0.0.1:0"]);
        let program = program.args(["--max-connection-age", "2"]);
        let server = program.start().await.unwrap();
        let outcome = over_renewals(&server, callers(&server)).await;
        assert_eq!(outcome.failures, [""; 0], "of {} calls", outcome.calls);
        assert!(outcome.calls > 100, "only {} calls", outcome.calls);
        assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn are_not_noticed_by_tonic_s_client_with_the_layer() {
        renewed(|server| Callers::tonic(server, true)).await;
    }

    #[tokio::test]
    #[ignore = "needs Python packages; run by tests/all"]
    async fn are_not_noticed_by_python_clients_of_grpc() {
        renewed(|server| Callers::others(python("grpc_calls.py"), server)).await;
    }

    #[tokio::test]
    #[ignore = "needs node and its packages; run by tests/all"]
    async fn are_not_noticed_by_node_clients_of_grpc() {
        renewed(|server| Callers::others(node("grpc_calls.mjs"), server)).await;
    }
}

mod with_tls {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tonic_s_client_notices_no_upgrade_of_our_loop() {
        let outcome = upgraded_over_tls(OURS, Callers::tonic_over_tls).await;
        outcome.assert_unnoticed();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tonic_s_client_notices_no_upgrade_of_tonic_s_loop() {
        // How often streams are opened again depends on the moment of tonic's own GOAWAY.
        let outcome = upgraded_over_tls(FOREIGN, Callers::tonic_over_tls).await;
        assert_eq!(outcome.failures, [""; 0], "of {} calls", outcome.calls);
    }

    #[tokio::test]
    #[ignore = "needs Python packages; run by tests/all"]
    async fn python_clients_of_grpc_notice_no_upgrade() {
        let client = |server: &Server, certificates: &Certificates| {
            Callers::others_over_tls(python("grpc_calls.py"), server, certificates)
        };
        upgraded_over_tls(OURS, client).await.assert_unnoticed();
    }

    #[tokio::test]
    #[ignore = "needs node and its packages; run by tests/all"]
    async fn node_clients_of_grpc_notice_no_upgrade() {
        let client = |server: &Server, certificates: &Certificates| {
            Callers::others_over_tls(node("grpc_calls.mjs"), server, certificates)
        };
        upgraded_over_tls(OURS, client).await.assert_unnoticed();
    }
}

#[cfg(target_os = "linux")]
mod across_a_delay_line {
    use super::*;

    #[test]
    #[ignore = "needs root, ip, /dev/net/tun and Python packages; run by tests/all"]
    fn python_clients_of_grpc_notice_no_upgrade() {
        let client = |server: &Server| Callers::others(python("grpc_calls.py"), server);
        upgraded_across_a_delay_line(client).assert_unnoticed();
    }

    #[test]
    #[ignore = "needs root, ip, /dev/net/tun and node; run by tests/all"]
    fn node_clients_of_grpc_notice_no_upgrade() {
        let client = |server: &Server| Callers::others(node("grpc_calls.mjs"), server);
        upgraded_across_a_delay_line(client).assert_unnoticed();
    }

    #[test]
    #[ignore = "needs root, ip and /dev/net/tun; run by tests/all"]
    fn tonic_s_client_needs_the_layer() {
        let outcome = upgraded_across_a_delay_line(|server| Callers::tonic(server, true));
        outcome.assert_unnoticed();
        // Calls that the server has lost to nobody, and that are reported as lost all the same.
        let outcome = upgraded_across_a_delay_line(|server| Callers::tonic(server, false));
        assert!(!outcome.failures.is_empty(), "{} calls", outcome.calls);
        for failure in outcome.failures {
            let of_the_client = ["Cancelled", "Internal", "Unknown"];
            let is_so = of_the_client.iter().any(|code| failure.contains(code));
            assert!(is_so, "{failure}");
        }
    }
}
