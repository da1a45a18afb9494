//! Checks: a program shows that it could start, and nobody notices.

use std::{fs, time::Instant};

use handover::{
    Check, Checked,
    control::{Event, Failure, Request, UpgradeRequest},
};

use rustix::process::Signal;

use super::{
    control::{self, Call, names},
    server,
    service::{self, PATIENCE, Service, alive, ask, connect, directory, send, who},
};

#[test]
fn a_check_proves_what_it_can_and_disturbs_nothing() {
    let (service, first) = Service::start(&[]);
    let address = &first.addresses[0];
    // The next release listens elsewhere too.
    let path = service.path("new.sock");
    let listen = format!("web={address} unix:{}", path.display());
    fs::write(service.path("listen"), &listen).unwrap();
    let mut talk = connect(address);
    let checking = std::thread::scope(|scope| {
        let checking = scope.spawn(|| talk.ask("check"));
        while !checking.is_finished() {
            assert_eq!(who(address), first.pid, "a check accepts nothing");
        }
        checking.join().unwrap()
    });
    let proven = format!("name: \"web\", address: \"{address}\", kind: \"tcp\", in_use: true");
    assert!(
        checking.starts_with("ok") && checking.contains(&proven),
        "{checking}"
    );
    let unix = format!(
        "address: \"unix:{}\", kind: \"unix\", in_use: false",
        path.display()
    );
    assert!(checking.contains(&unix), "{checking}");
    assert!(checking.contains("version: 1"), "{checking}");

    assert!(!path.exists(), "nothing is made");
    assert_eq!(service.pid_file(), Some(first.pid));
    assert_eq!(ask(address, "phase"), "running");
    service.logged("this process was a check, and is to end");
    assert!(!service.log().contains("serving generation=1"));
    // It was the first of the next generation's number, and a real one still comes.
    assert!(
        ask(address, "upgrade").starts_with("ok"),
        "{}",
        service.log()
    );
    let second = service.ready();
    assert_eq!(second.generation, 1);
}

#[test]
fn a_check_that_fails_says_why() {
    let (service, first) = Service::start(&[(server::READY_TIMEOUT_MS, "3000")]);
    let address = &first.addresses[0];
    for (fault, texts) in [
        (
            "exit-before-start",
            &["kind: Failed", "exit status: 5", "the disk is full"][..],
        ),
        ("exit", &["kind: Failed", "exit status: 3", "no database"]),
        ("panic", &["kind: Failed", "it panicked", "no luck at all"]),
        ("kill", &["kind: Failed", "signal: 9"]),
        ("hang", &["kind: TimedOut", "was killed", "3s"]),
    ] {
        service.fault(fault);
        let answer = ask(address, "check");
        for text in texts {
            assert!(
                answer.starts_with("err") && answer.contains(text),
                "{fault}: {text}: {answer}"
            );
        }
    }
    service.no_fault();
    // An address of another machine (documentation, RFC 5737).
    fs::write(service.path("listen"), "192.0.2.1:80").unwrap();
    let answer = ask(address, "check");
    assert!(
        answer.starts_with("err") && answer.contains("192.0.2.1:80"),
        "{answer}"
    );
    fs::write(service.path("listen"), address).unwrap();
    let answer = ask(address, "check");
    assert!(answer.starts_with("ok"), "{answer}");
    // Nor may a file be in the way of the pid file.
    fs::rename(service.path("pid"), service.path("old")).unwrap();
    fs::create_dir(service.path("pid")).unwrap();
    let answer = ask(address, "check");
    assert!(
        answer.starts_with("err") && answer.contains("it is a directory"),
        "{answer}"
    );
    assert_eq!(who(address), first.pid);
}

#[test]
fn one_that_does_not_end_is_killed() {
    let (service, first) = Service::start(&[]);
    service.fault("stubborn");
    let begun = Instant::now();
    let answer = ask(&first.addresses[0], "check");
    assert!(answer.starts_with("ok"), "{answer}");
    assert!(begun.elapsed() < PATIENCE);
    let pid = service.line("stubborn pid=").parse().unwrap();
    assert!(!alive(pid));
}

/// Who checks may be too busy to listen before it is over.
#[test]
fn what_a_check_said_is_heard_after_its_end() {
    let (service, first) = control::start(&[(server::CHECK_FIRST, "1")]);
    service.fault("exit-when-told");
    let mut call = Call::new(&service, &control::upgrade());
    let mut events = call.until("checking", |event| matches!(event, Event::Checking { .. }));
    let Some(Event::Checking { pid, .. }) = events.last() else {
        panic!("{events:?}")
    };
    service.line("waiting");
    send(first.pid, Signal::STOP);
    fs::write(service.path("told"), "").unwrap();
    service.wait_until("the check to be over", || service::state(*pid) == Some('Z'));
    send(first.pid, Signal::CONT);
    events.extend(call.outcome());
    let all = ["begun", "checking", "initialising", "failed"];
    assert_eq!(names(&events), all);
}

#[test]
fn a_check_may_come_before_each_upgrade() {
    let (service, first) = control::start(&[(server::CHECK_FIRST, "1")]);
    service.fault("exit");
    let events = Call::new(&service, &control::upgrade()).outcome();
    assert_eq!(
        names(&events),
        ["begun", "checking", "initialising", "failed"]
    );
    let Some(Event::Failed {
        kind: Failure::Ended,
        message,
        ..
    }) = events.last()
    else {
        panic!("{events:?}")
    };
    assert!(
        message.contains("its check was over") && message.contains("no database"),
        "{message}"
    );
    assert!(!service.log().contains("successor started"));
    assert_eq!(who(&first.addresses[0]), first.pid);

    service.no_fault();
    let events = Call::new(&service, &control::upgrade()).outcome();
    let begin = [
        "begun",
        "checking",
        "initialising",
        "checked",
        "starting",
        "initialising",
        "ready",
    ];
    assert_eq!(names(&events)[..begin.len()], begin);
    assert_eq!(service.ready().generation, 1);
}

#[test]
fn who_asks_for_an_upgrade_may_ask_for_a_check() {
    let (service, _) = control::start(&[]);
    let request = Request::Upgrade(UpgradeRequest::default().check(true));
    let events = Call::new(&service, &request).outcome();
    assert!(names(&events).contains(&"checked".to_owned()), "{events:?}");
    assert_eq!(names(&events).last().unwrap(), "drained");
}

/// Without a service.
#[tokio::test]
async fn any_program_can_be_checked() {
    let dir = directory();
    let check = || {
        let program = dir.path().join("server");
        // The environment is the test's; only the program's own arguments say what it is.
        let name = service::ARGS.join(" ");
        let line = format!(
            "{}={} exec {} {name}",
            server::DIR,
            dir.path().display(),
            program.display()
        );
        Check::new("/bin/sh").args(["-c", &line]).dir(dir.path())
    };
    let checked: Checked = check().run().await.unwrap();
    assert_eq!(checked.sockets[0].name, "127.0.0.1:0");
    assert!(!dir.path().join("pid").exists());
    fs::write(dir.path().join("fault"), "exit").unwrap();
    let err = check().run().await.unwrap_err();
    assert!(
        err.is_failed() && err.to_string().contains("exit status: 3"),
        "{err}"
    );
    let err = Check::new("no-such-program-anywhere")
        .run()
        .await
        .unwrap_err();
    assert!(err.is_spawn(), "{err}");
    let err = Check::new("/bin/true").run().await.unwrap_err();
    assert!(err.is_failed(), "{err}");
}
