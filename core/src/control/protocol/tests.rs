use std::collections::BTreeMap;

use super::*;
use crate::{
    Kind as Holder,
    status::{HeldKind, LastUpgrade, Older, PastUpgrade, Socket, Standing, Step, Upgrade},
};

fn held() -> Held {
    let mut held = Held::default();
    (held.connections, held.requests, held.tasks, held.guards) = (12, 3, 1, 14);
    held.longest = Duration::from_millis(8_500);
    held.kinds = vec![HeldKind {
        kind: Holder::Request,
        count: 3,
        longest: Duration::from_millis(8_500),
    }];
    held
}

fn status() -> Status {
    Status {
        pid: 77,
        generation: 3,
        release: None,
        standing: Standing::Draining,
        since: Duration::from_millis(1_500),
        age: Duration::from_secs(3600),
        progress: Some("warming the cache: 40 %".into()),
        reason: Some("upgrade to pid 78".into()),
        remaining: Some(Duration::from_secs(58)),
        predecessor: Some(76),
        successor: Some(78),
        older: vec![Older {
            pid: 76,
            generation: 2,
            held: Some(held()),
            remaining: None,
            release: None,
            age: None,
        }],
        upgrade: Some(Upgrade {
            step: Step::Draining,
            successor: Some(78),
            progress: Some("listening".into()),
            age: Duration::from_secs(2),
        }),
        last_upgrade: Some(LastUpgrade {
            error: Some("the successor (pid 75) ended before it was ready".into()),
            ago: Duration::from_secs(60),
        }),
        workers: Vec::new(),
        recent_upgrades: vec![PastUpgrade {
            generation: 3,
            error: None,
            ago: Duration::from_secs(3600),
        }],
        failed_upgrades: 1,
        listeners: vec![Socket {
            name: "web".into(),
            address: "127.0.0.1:8080".into(),
            kind: "tcp".into(),
        }],
        held: held(),
    }
}

fn events() -> BTreeMap<&'static str, Event> {
    let text = |text: &str| text.to_owned();
    BTreeMap::from([
        (
            "status",
            Event::Status {
                status: Box::new(status()),
            },
        ),
        (
            "begun",
            Event::Begun {
                pid: 77,
                generation: 3,
            },
        ),
        ("checking", Event::Checking { pid: 78 }),
        ("checked", Event::Checked { pid: 78 }),
        (
            "starting",
            Event::Starting {
                pid: 78,
                generation: 4,
            },
        ),
        (
            "initialising",
            Event::Initialising {
                pid: 78,
                text: text("warming the cache: 40 %"),
            },
        ),
        ("ready", Event::Ready { pid: 78 }),
        (
            "serving",
            Event::Serving {
                pid: 78,
                generation: 4,
            },
        ),
        (
            "draining",
            Event::Draining {
                held: held(),
                remaining: Some(Duration::from_secs(58)),
            },
        ),
        (
            "drained",
            Event::Drained {
                took: Duration::from_millis(1_250),
                moved: 7,
                cut: 1,
                abandoned: 0,
                text: text("drained in 1.250 s"),
            },
        ),
        ("cut", Event::Cut { pids: vec![75, 76] }),
        ("reexecuted", Event::reexecuted(77, "0.1.0")),
        (
            "failed",
            Event::Failed {
                kind: Failure::Ended,
                message: text("it ended\nbefore it was ready"),
            },
        ),
        (
            "resumed",
            Event::Resumed {
                message: text("signal: 9"),
            },
        ),
        (
            "refused",
            Event::Refused {
                kind: Refusal::Stale,
                message: text("generation 4 serves"),
            },
        ),
    ])
}

fn requests() -> BTreeMap<&'static str, Request> {
    let upgrade = UpgradeRequest::default();
    BTreeMap::from([
        ("request-status", Request::Status),
        ("request-drain", Request::Drain),
        ("request-cut", Request::Cut),
        ("request-reexec", Request::Reexec),
        ("request-upgrade", Request::Upgrade(upgrade.clone())),
        (
            "request-upgrade-all",
            Request::Upgrade(upgrade.if_generation(3).check(true)),
        ),
    ])
}

fn golden(name: &str) -> String {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/control-v1");
    std::fs::read_to_string(format!("{dir}/{name}.json")).unwrap()
}

/// Fails if a release no longer understands the first one.
#[test]
fn version_1_is_understood_for_ever() {
    for (name, event) in events() {
        assert_eq!(Event::from_line(&golden(name)), Ok(event), "{name}");
    }
    for (name, request) in requests() {
        assert_eq!(Request::from_line(golden(name).as_bytes()), Ok(request));
    }
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/control-v1");
    let count = std::fs::read_dir(dir).unwrap().count();
    assert_eq!(count, events().len() + requests().len());
}

#[test]
fn what_is_written_comes_back_as_one_line() {
    for (name, event) in events() {
        let line = event.to_line();
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{name}");
        assert_eq!(Event::from_line(&line), Ok(event), "{name}");
    }
    for (name, request) in requests() {
        let line = request.to_line();
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{name}");
        assert_eq!(Request::from_line(line.as_bytes()), Ok(request), "{name}");
    }
}

#[test]
fn what_a_later_release_adds_is_left_alone() {
    let event = |line| Event::from_line(line).unwrap();
    assert_eq!(
        event(r#"{"version":9,"event":"teleported","to":[1]}"#),
        Event::Unknown
    );
    let more = r#"{"event":"ready","pid":7,"mood":"good","version":2}"#;
    assert_eq!(event(more), Event::Ready { pid: 7 });
    let kind = r#"{"event":"refused","kind":"full_moon","message":"no"}"#;
    assert_eq!(event(kind), Event::refused(Refusal::Other, "no"));
    let Event::Status { status } =
        event(r#"{"event":"status","status":{"pid":5,"standing":"odd"}}"#)
    else {
        panic!()
    };
    assert_eq!((status.pid, status.standing), (5, Standing::Unknown));
    let request = br#"{"command":"upgrade","version":9,"colour":"red"}"#;
    let plain = Request::Upgrade(UpgradeRequest::default());
    assert_eq!(Request::from_line(request), Ok(plain));
}

#[test]
fn what_is_no_request_is_refused_with_a_reason() {
    for (line, kind, why) in [
        ("", Refusal::BadRequest, "not a line of JSON"),
        ("status", Refusal::BadRequest, "not a line of JSON"),
        ("[1]", Refusal::BadRequest, "no command"),
        ("{}", Refusal::BadRequest, "no command"),
        (r#"{"command":7}"#, Refusal::BadRequest, "no command"),
        (
            r#"{"command":"explode"}"#,
            Refusal::UnknownCommand,
            "status, upgrade",
        ),
        (
            r#"{"command":"upgrade","if_generation":"three"}"#,
            Refusal::BadRequest,
            "for upgrade",
        ),
        (
            r#"{"command":"upgrade","if_generation":-1}"#,
            Refusal::BadRequest,
            "for upgrade",
        ),
    ] {
        let Refused(got, message) = Request::from_line(line.as_bytes()).unwrap_err();
        assert_eq!(got, kind, "{line}");
        assert!(message.contains(why), "{line}: {message}");
    }
    let deep = "[".repeat(LONGEST_REQUEST - 1);
    assert!(Request::from_line(deep.as_bytes()).is_err());
    assert!(Request::from_line(b"\xff\xfe\x00").is_err());
}

/// Whoever answers at a control socket of its own, as a supervisor does, is heard as a service is.
#[test]
fn what_others_answer_reads_as_what_a_service_says() {
    let others = [
        ("status", Event::status(status())),
        ("begun", Event::begun(77, 3)),
        ("starting", Event::starting(78, 4)),
        (
            "initialising",
            Event::initialising(78, "warming the cache: 40 %"),
        ),
        ("ready", Event::ready(78)),
        ("serving", Event::serving(78, 4)),
        (
            "draining",
            Event::draining(held(), Some(Duration::from_secs(58))),
        ),
        ("cut", Event::cut(vec![75, 76])),
        ("reexecuted", Event::reexecuted(77, "0.1.0")),
        (
            "failed",
            Event::failed(Failure::Ended, "it ended\nbefore it was ready"),
        ),
        (
            "refused",
            Event::refused(Refusal::Stale, "generation 4 serves"),
        ),
    ];
    let last = ["status", "cut", "reexecuted", "failed", "refused"];
    for (name, event) in others {
        assert_eq!(Event::from_line(&golden(name)).as_ref(), Ok(&event));
        assert_eq!(event.is_last(), last.contains(&name), "{name}");
    }
    // Of processes that are not ours it is not known what moved.
    let drained =
        Event::processes_drained(Duration::from_millis(1_250), 1, "two ended, one killed");
    let line = drained.to_line();
    assert!(line.contains(r#""cut":1"#) && drained.is_last(), "{line}");
    assert_eq!(Event::from_line(&line), Ok(drained));
}
