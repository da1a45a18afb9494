//! What does not go well, each with its exit status.

use std::{
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::Stdio,
};

use super::service::{Service, kill, outcome, program, visit};

fn fails(fault: &str, texts: &[&str]) {
    let (service, first, _) = Service::start();
    service.fault(fault);
    let failed = service.handover(&["upgrade"]);
    assert_eq!(failed.status, Some(1), "{failed}");
    for text in ["handover: the upgrade failed: "].iter().chain(texts) {
        assert!(failed.err.contains(text), "{text:?}: {failed}");
    }
    // The service is what it was.
    let status = service.handover(&["status"]);
    assert!(
        status
            .out
            .starts_with(&format!("generation 0 (pid {first}): running")),
        "{status}"
    );
    assert!(status.out.contains("last upgrade"), "{status}");
    std::fs::remove_file(service.path("fault")).unwrap();
    assert_eq!(service.handover(&["upgrade"]).status, Some(0));
}

#[test]
fn an_exit_is_told() {
    fails("exit", &["exit status: 3", "no database"]);
}

#[test]
fn a_panic_is_told() {
    fails("panic", &["it panicked", "no luck at all"]);
}

#[test]
fn a_hang_is_told() {
    fails("hang", &["was killed: 5s were over"]);
}

#[test]
fn the_end_of_a_successor_in_its_probation_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("probation"), "").unwrap();
    let (service, first, _) = Service::start_in(dir);
    service.fault("exit-after-ready");
    let failed = service.handover(&["upgrade"]);
    assert_eq!(failed.status, Some(1), "{failed}");
    let again = format!("process {first} serves again");
    assert!(
        failed.err.contains("exit status: 6") && failed.err.contains(&again),
        "{failed}"
    );
}

#[test]
fn refusals_are_told() {
    let (service, _, address) = Service::start();
    let stale = service.handover(&["upgrade", "--if-generation", "7"]);
    assert_eq!(stale.status, Some(3), "{stale}");
    assert!(
        stale.err.contains("refused: generation 0 serves"),
        "{stale}"
    );
    assert_eq!(service.handover(&["cut"]).status, Some(3));

    // Under way, and then a service that drains.
    service.fault("hang");
    let mut command = service.command(&["upgrade"]);
    let mut first = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("warming up") {}
    let second = service.handover(&["upgrade"]);
    assert_eq!(second.status, Some(3), "{second}");
    assert!(second.err.contains("under way"), "{second}");
    let _visitor = visit(&address, &service);
    let mut drain = service
        .command(&["drain"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(
        first.wait().unwrap().code(),
        Some(1),
        "the drain goes before it"
    );
    let late = service.handover(&["upgrade"]);
    assert_eq!(late.status, Some(3), "{late}");
    assert!(late.err.contains("drains"), "{late}");
    service.handover(&["cut"]);
    drain.wait().unwrap();
}

#[test]
fn who_cannot_be_reached_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let status = ["status", "--control", path.to_str().unwrap()];
    let absent = outcome(&mut program(&status));
    assert_eq!(absent.status, Some(4), "{absent}");
    assert!(absent.err.contains("is the path right"), "{absent}");
    drop(UnixListener::bind(&path).unwrap());
    let dead = outcome(&mut program(&status));
    assert_eq!(dead.status, Some(4), "{dead}");
    assert!(dead.err.contains("nobody listens there"), "{dead}");
}

#[test]
fn a_socket_without_permission_is_told() {
    let (service, ..) = Service::start();
    let path = service.path("control");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let status = service.handover(&["status"]);
    // Root may connect all the same.
    let expected = if rustix::process::geteuid().is_root() {
        0
    } else {
        4
    };
    assert_eq!(status.status, Some(expected), "{status}");
}

#[test]
fn wrong_arguments_are_told() {
    for args in [
        &["upgrade"][..],
        &["explode", "--control", "/x"],
        &["upgrade", "--control", "/x", "--if-generation", "-1"],
        &["status", "--control", "/x", "--timeout", "soon"],
        &[],
    ] {
        let wrong = outcome(&mut program(args));
        assert_eq!(wrong.status, Some(2), "{args:?}: {wrong}");
    }
    let help = outcome(&mut program(&["upgrade", "--help"]));
    assert_eq!(help.status, Some(0));
    assert!(help.out.contains("Exit status"), "{help}");
}

#[test]
fn a_service_that_is_killed_meanwhile_is_told() {
    let (service, first, _) = Service::start();
    service.fault("hang");
    let mut command = service.command(&["upgrade"]);
    let mut upgrade = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(upgrade.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("warming up") {}
    kill(first);
    assert_eq!(upgrade.wait().unwrap().code(), Some(5));
}

#[test]
fn a_time_limit_ends_the_wait_and_not_the_upgrade() {
    let (service, _, address) = Service::start();
    let visitor = visit(&address, &service);
    let late = service.handover(&["upgrade", "--timeout", "2"]);
    assert_eq!(late.status, Some(6), "{late}");
    assert!(late.err.contains("the time is over"), "{late}");
    service.ready();
    drop(visitor);
    // And of one that does not answer at all.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let _mute = UnixListener::bind(&path).unwrap();
    let args = [
        "status",
        "--timeout",
        "0.2",
        "--control",
        path.to_str().unwrap(),
    ];
    let mute = outcome(&mut program(&args));
    assert_eq!(mute.status, Some(6), "{mute}");
}

#[test]
fn what_is_no_service_is_told() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 64];
        let _ = stream.read(&mut request).unwrap();
        stream.write_all(b"220 mail.example.org ready\r\n").unwrap();
    });
    let status = outcome(&mut program(&[
        "status",
        "--control",
        path.to_str().unwrap(),
    ]));
    assert_eq!(status.status, Some(5), "{status}");
    assert!(status.err.contains("no service"), "{status}");
    other.join().unwrap();
}
