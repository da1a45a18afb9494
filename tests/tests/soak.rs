//! The soak, for half a minute, and that it notices what it is there for.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use handover_tests::soak::ROWS;
use serde_json::Value;

use self::support::directory;

/// Runs it; the servers are those that the tests have.
fn soak(out: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_soak");
    let servers = Path::new(program).parent().unwrap();
    Command::new(program)
        .arg("--servers")
        .arg(servers)
        .arg("--out")
        .arg(out)
        .args(arguments)
        .output()
        .unwrap()
}

fn report(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap()
}

#[test]
fn a_short_soak_of_all_servers_finds_nothing() {
    let (_kept, path) = directory();
    let out = path("out");
    let soaked = soak(
        &out,
        &[
            "--minutes",
            "0.5",
            "--rate",
            "8",
            "--every",
            "2",
            "--seed",
            "1",
        ],
    );
    let said = String::from_utf8_lossy(&soaked.stdout);
    let errors = String::from_utf8_lossy(&soaked.stderr);
    assert!(soaked.status.success(), "{said}\n{errors}");
    let report = report(&out);
    assert!(report["failed"].is_null(), "{report}");
    let servers = report["servers"].as_array().unwrap();
    assert_eq!(servers.len(), ROWS.len() - 1, "{report}");
    for server in servers {
        // One that did nothing would find nothing either.
        assert!(server["answered"].as_u64() > Some(20), "{server}");
        assert!(!server["events"].as_array().unwrap().is_empty(), "{server}");
        assert!(server["generations"].as_u64() > Some(1), "{server}");
        let name = server["name"].as_str().unwrap();
        assert!(
            out.join(format!("{name}.log")).exists(),
            "the log of {name}"
        );
    }
    assert!(said.contains("seed 1"), "{said}");
    let picture = fs::read_to_string(out.join("soak.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("tonic-foreign: its descriptors"));
    let log = fs::read_to_string(out.join("events.log")).unwrap();
    assert!(log.contains("whole again after"), "{log}");
}

#[test]
fn a_server_that_loses_requests_is_found_out() {
    let (_kept, path) = directory();
    let out = path("out");
    let only = [
        "--only",
        "bare-axum",
        "--minutes",
        "2",
        "--every",
        "1",
        "--seed",
        "1",
    ];
    let soaked = soak(&out, &only);
    let said = String::from_utf8_lossy(&soaked.stdout);
    assert_eq!(soaked.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED at"), "{said}");
    assert!(said.contains("seed 1: bare-axum: restart: "), "{said}");
    assert!(
        said.contains("requests lost where at most 0 are to be"),
        "{said}"
    );
    assert!(report(&out)["failed"]["what"].is_string());
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let (_kept, path) = directory();
    let soaked = soak(&path("out"), &["--only", "nginx"]);
    let said = String::from_utf8_lossy(&soaked.stderr);
    assert!(
        !soaked.status.success() && said.contains("there is no server nginx"),
        "{said}"
    );
}
