//! `handover check`, of programs that could and could not start.

use std::{fs, path::Path};

use super::service::{Outcome, Service, outcome, program};

fn check(dir: &Path, options: &[&str]) -> Outcome {
    let mut command = program(&["check"]);
    // By way of `env`, so that the variable makes a service of it and not of us.
    command
        .args(options)
        .args(["--", "/usr/bin/env"])
        .args(Service::line(dir));
    outcome(&mut command)
}

#[test]
fn a_program_that_could_start_is_told_and_leaves_nothing() {
    let (service, first, _) = Service::start();
    let checked = check(service.dir.path(), &[]);
    assert_eq!(checked.status, Some(0), "{checked}");
    assert!(
        checked.out.contains("can start") && checked.out.contains("tcp 127.0.0.1:0"),
        "{checked}"
    );
    let json = check(service.dir.path(), &["--json"]);
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["version"], 1);
    assert_eq!(value["sockets"][0]["name"], "127.0.0.1:0");
    // The service in whose place it would come has not noticed.
    let status = service.handover(&["status"]);
    assert!(
        status
            .out
            .starts_with(&format!("generation 0 (pid {first}): running")),
        "{status}"
    );
}

#[test]
fn a_program_that_cannot_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for (fault, text) in [
        ("exit", "no database"),
        ("panic", "no luck at all"),
        ("hang", "was killed"),
    ] {
        fs::write(dir.path().join("fault"), fault).unwrap();
        let failed = check(dir.path(), &["--timeout", "2"]);
        assert_eq!(failed.status, Some(1), "{failed}");
        let expected =
            failed.err.contains("handover: the check failed: ") && failed.err.contains(text);
        assert!(expected, "{fault}: {failed}");
    }
    let absent = outcome(&mut program(&["check", "--", "/no/such/program"]));
    assert_eq!(absent.status, Some(1), "{absent}");
    assert!(absent.err.contains("cannot start"), "{absent}");
    assert_eq!(outcome(&mut program(&["check"])).status, Some(2));
}

#[test]
fn an_upgrade_may_begin_with_a_check() {
    let (service, first, _) = Service::start();
    service.fault("exit");
    let failed = service.handover(&["upgrade", "--check"]);
    assert_eq!(failed.status, Some(1), "{failed}");
    assert!(failed.err.contains("its check was over"), "{failed}");
    fs::remove_file(service.path("fault")).unwrap();
    let done = service.handover(&["upgrade", "--check"]);
    assert_eq!(done.status, Some(0), "{done}");
    assert!(done.out.contains("could become ready"), "{done}");
    assert_ne!(service.ready().0, first);
}
