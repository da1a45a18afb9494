//! The control socket of real services.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use handover::{
    Status,
    control::{Event, Failure, LONGEST_REQUEST, Refusal, Request, UpgradeRequest},
    status::{Standing, Step},
};
use rustix::{
    process::{Signal, Uid},
    thread::set_thread_res_uid,
};

use super::{
    server,
    service::{PATIENCE, Ready, Service, connect, send, who},
};

/// Neither the service's user nor root.
const NOBODY: u32 = 65534;

pub(crate) fn start(env: &[(&str, &str)]) -> (Service, Ready) {
    let env = [env, &[(server::CONTROL, "1")]].concat();
    Service::start(&env)
}

/// A request under way.
pub(crate) struct Call(BufReader<UnixStream>);

impl Call {
    /// Connects, and sends these bytes.
    fn raw(service: &Service, bytes: &[u8]) -> Self {
        Self::at(&service.path("control"), bytes)
    }

    fn at(path: &Path, bytes: &[u8]) -> Self {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A service that refuses may have hung up before it has read everything.
        let _ = stream.write_all(bytes);
        Self(BufReader::new(stream))
    }

    pub(crate) fn new(service: &Service, request: &Request) -> Self {
        Self::raw(service, request.to_line().as_bytes())
    }

    /// The next event; `None` at the end.
    fn next(&mut self) -> Option<Event> {
        let mut line = String::new();
        // What was sent beyond the request and not read resets the connection at its end.
        let read = self.0.read_line(&mut line).unwrap_or(0);
        (read > 0).then(|| Event::from_line(&line).unwrap())
    }

    /// All events up to one that fits, which is the last in the list.
    pub(crate) fn until(&mut self, what: &str, fits: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next();
            let event = event.unwrap_or_else(|| panic!("no {what}, only {events:?}"));
            events.push(event);
            if fits(&events[events.len() - 1]) {
                return events;
            }
        }
    }

    /// All events to the outcome, after which there must be none.
    pub(crate) fn outcome(mut self) -> Vec<Event> {
        let events = self.until("outcome", Event::is_last);
        assert_eq!(self.next(), None);
        events
    }
}

pub(crate) fn upgrade() -> Request {
    Request::Upgrade(UpgradeRequest::default())
}

pub(crate) fn status(service: &Service) -> Status {
    let mut events = Call::new(service, &Request::Status).outcome();
    match events.remove(0) {
        Event::Status { status, .. } => *status,
        other => panic!("{other:?}"),
    }
}

fn refusal(events: &[Event]) -> (Refusal, String) {
    match events {
        [Event::Refused { kind, message, .. }] => (*kind, message.clone()),
        other => panic!("{other:?}"),
    }
}

/// The names of the events, each once in a row.
pub(crate) fn names(events: &[Event]) -> Vec<String> {
    let name = |event: &Event| {
        let line: serde_json::Value = serde_json::from_str(&event.to_line()).unwrap();
        line["event"].as_str().unwrap().to_owned()
    };
    let mut names: Vec<_> = events.iter().map(name).collect();
    names.dedup();
    names
}

#[test]
fn a_status_says_who_serves_where_and_what_it_holds() {
    let (service, first) = start(&[]);
    let _open = connect(&first.addresses[0]).ask("pid");
    let held = connect(&first.addresses[0]);
    let status = status(&service);
    assert_eq!((status.pid, status.generation), (first.pid, 0));
    assert_eq!(status.standing, Standing::Running);
    assert_eq!(status.predecessor, None);
    assert!(status.upgrade.is_none() && status.last_upgrade.is_none());
    let tcp = &status.listeners[0];
    assert_eq!(
        (tcp.address.as_str(), tcp.kind.as_str()),
        (&*first.addresses[0], "tcp")
    );
    assert!(status.age >= status.since && status.age < Duration::from_secs(600));
    assert!(status.held.guards > 0, "{status:?}");
    drop(held);
}

#[test]
fn only_the_owner_may_connect() {
    let (service, _) = start(&[]);
    let mode = std::fs::metadata(service.path("control"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Fails if the file's mode alone says who may ask: it may be changed, and its directory is open.
#[test]
fn another_user_is_refused_even_where_the_file_lets_it_in() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can ask as somebody else");
        return;
    }
    let (service, first) = start(&[]);
    for (path, mode) in [("", 0o755), ("control", 0o666)] {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(service.path(path), mode).unwrap();
    }
    let path = service.path("control");
    for request in [Request::Status, upgrade(), Request::Drain, Request::Cut] {
        let events = std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                // Of this thread alone, for ever: the thread ends.
                let nobody = Uid::from_raw(NOBODY);
                set_thread_res_uid(nobody, nobody, nobody).unwrap();
                Call::at(&path, request.to_line().as_bytes()).outcome()
            });
            asked.join().unwrap()
        });
        let (kind, message) = refusal(&events);
        assert_eq!(kind, Refusal::Forbidden, "{message}");
        assert!(message.contains(&NOBODY.to_string()), "{message}");
    }
    let status = status(&service);
    assert_eq!((status.pid, status.generation), (first.pid, 0));
    assert_eq!(status.standing, Standing::Running);
}

#[test]
fn who_asks_for_an_upgrade_hears_of_it_until_the_old_generation_has_gone() {
    let (mut service, first) = start(&[]);
    let mut open = connect(&first.addresses[0]);
    assert_eq!(open.ask("pid"), first.pid.to_string());
    let inode = |service: &Service| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(service.path("control")).unwrap().ino()
    };
    let before = inode(&service);

    let mut call = Call::new(&service, &upgrade());
    let mut events = call.until("draining", |event| matches!(event, Event::Draining { .. }));
    let second = service.ready();
    assert_eq!(inode(&service), before, "the same socket");
    let status = status(&service);
    assert_eq!(
        (status.pid, status.generation),
        (second.pid, 1),
        "the newest answers"
    );
    assert_eq!(status.predecessor, Some(first.pid));
    let Event::Draining {
        held, remaining, ..
    } = &events[events.len() - 1]
    else {
        panic!()
    };
    assert!(held.guards >= 1 && remaining.is_some(), "{held:?}");

    drop(open);
    events.extend(call.outcome());
    let expected = [
        "begun",
        "starting",
        "initialising",
        "ready",
        "serving",
        "draining",
        "drained",
    ];
    assert_eq!(names(&events), expected);
    assert!(
        events.contains(
            &Event::from_line(&format!(
                r#"{{"event":"serving","pid":{},"generation":1}}"#,
                second.pid
            ))
            .unwrap()
        )
    );
    let said =
        |event: &Event| matches!(event, Event::Initialising { text, .. } if text == "warming up");
    assert!(events.iter().any(said), "{events:?}");
    assert!(service.first_ended().success());
    assert_eq!(who(&first.addresses[0]), second.pid);
}

/// The outcome is there although `main` returns as soon as the drain is over: in one thread nothing
/// else of the process runs after that.
#[test]
fn the_last_line_comes_before_the_end() {
    the_last_line_comes(&[]);
    the_last_line_comes(&[(server::ONE_THREAD, "1")]);
}

fn the_last_line_comes(env: &[(&str, &str)]) {
    let (mut service, _) = start(env);
    for round in 0..5 {
        let events = Call::new(&service, &upgrade()).outcome();
        assert_eq!(
            names(&events).last().unwrap(),
            "drained",
            "round {round}: {events:?}"
        );
        service.ready();
    }
    let events = Call::new(&service, &Request::Drain).outcome();
    assert_eq!(names(&events).last().unwrap(), "drained", "{events:?}");
    let Some(Event::Drained { text, cut: 0, .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert!(text.contains("the control socket"), "{text}");
    service.wait_until("the socket is removed", || {
        !service.path("control").exists()
    });
    service.first_ended();
}

#[test]
fn a_failed_upgrade_is_heard_with_all_that_is_known() {
    let (service, first) = start(&[(server::READY_TIMEOUT_MS, "3000")]);
    for (fault, kind, why) in [
        (
            "exit",
            Failure::Ended,
            &["exit status: 3", "no database"][..],
        ),
        ("panic", Failure::Ended, &["it panicked", "no luck at all"]),
        ("hang", Failure::TimedOut, &["was killed", "3s"]),
    ] {
        service.fault(fault);
        let events = Call::new(&service, &upgrade()).outcome();
        let Some(Event::Failed {
            kind: got, message, ..
        }) = events.last()
        else {
            panic!("{fault}: {events:?}")
        };
        assert_eq!(*got, kind, "{fault}");
        for text in why {
            assert!(
                message.contains(text),
                "{fault}: {text:?} is not in {message}"
            );
        }
        let status = status(&service);
        assert_eq!(
            (status.pid, status.standing),
            (first.pid, Standing::Running)
        );
        assert_eq!(status.last_upgrade.unwrap().error.as_ref(), Some(message));
    }
    service.no_fault();
    let away = service.path("away");
    std::fs::rename(service.path("server"), &away).unwrap();
    let events = Call::new(&service, &upgrade()).outcome();
    let Some(Event::Failed {
        kind: Failure::Spawn,
        ..
    }) = events.last()
    else {
        panic!("{events:?}")
    };
    std::fs::rename(&away, service.path("server")).unwrap();
    let events = Call::new(&service, &upgrade()).outcome();
    assert!(
        matches!(events.last(), Some(Event::Drained { .. })),
        "{events:?}"
    );
}

#[test]
fn a_second_request_and_a_stale_one_are_refused() {
    let (service, first) = start(&[(server::READY_TIMEOUT_MS, "60000")]);
    let stale = UpgradeRequest::default().if_generation(7);
    let (kind, message) = refusal(&Call::new(&service, &Request::Upgrade(stale)).outcome());
    assert_eq!(kind, Refusal::Stale);
    assert!(
        message.contains("generation 0 serves") && message.contains('7'),
        "{message}"
    );

    service.fault("hang");
    let mut call = Call::new(&service, &upgrade());
    call.until("progress", |event| {
        matches!(event, Event::Initialising { .. })
    });
    let status = status(&service);
    assert_eq!(status.standing, Standing::Upgrading);
    let under_way = status.upgrade.unwrap();
    assert_eq!(under_way.step, Step::Initialising);
    assert_eq!(under_way.progress.as_deref(), Some("warming up"));
    assert!(under_way.successor.is_some());
    let (kind, _) = refusal(&Call::new(&service, &upgrade()).outcome());
    assert_eq!(kind, Refusal::InProgress);
    let (kind, _) = refusal(&Call::new(&service, &Request::Cut).outcome());
    assert_eq!(kind, Refusal::NothingDrains);

    // A drain goes before an upgrade, whose caller learns of it.
    let drain = Call::new(&service, &Request::Drain);
    let events = call.outcome();
    let Some(Event::Failed {
        kind: Failure::Stopped,
        ..
    }) = events.last()
    else {
        panic!("{events:?}")
    };
    assert!(matches!(
        drain.outcome().last(),
        Some(Event::Drained { .. })
    ));
    service.gone(first.pid);
}

#[test]
fn a_cut_ends_a_drain() {
    let (mut service, first) = start(&[]);
    let mut open = connect(&first.addresses[0]);
    open.ask("pid");
    let mut drain = Call::new(&service, &Request::Drain);
    drain.until("draining", |event| matches!(event, Event::Draining { .. }));
    // A generation that drains for good goes on answering.
    assert_eq!(status(&service).standing, Standing::Draining);
    let (kind, _) = refusal(&Call::new(&service, &upgrade()).outcome());
    assert_eq!(kind, Refusal::Draining);
    let cut = Call::new(&service, &Request::Cut);
    assert!(matches!(cut.outcome().last(), Some(Event::Drained { .. })));
    let Some(Event::Drained { abandoned, .. }) = drain.outcome().pop() else {
        panic!()
    };
    assert!(
        abandoned > 0,
        "the open connection holds its guard for ever"
    );
    service.first_ended();
}

#[test]
fn the_end_of_a_successor_in_its_probation_is_heard() {
    let (service, first) = start(&[(server::PROBATION_MS, "20000")]);
    service.fault("exit-after-ready");
    let events = Call::new(&service, &upgrade()).outcome();
    let Some(Event::Resumed { message, .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert!(message.contains("exit status: 6"), "{message}");
    let status = status(&service);
    assert_eq!(
        (status.pid, status.standing),
        (first.pid, Standing::Running)
    );
    service.no_fault();
    service.ready();
    let mut call = Call::new(&service, &upgrade());
    call.until("serving", |event| matches!(event, Event::Serving { .. }));
    let second = service.ready();
    service.served_by(&first.addresses[0], second.pid);
}

#[test]
fn a_service_that_is_killed_ends_the_answer() {
    let (service, first) = start(&[]);
    service.fault("hang");
    let mut call = Call::new(&service, &upgrade());
    call.until("starting", |event| matches!(event, Event::Starting { .. }));
    send(first.pid, Signal::KILL);
    assert!(!call.until_end().iter().any(Event::is_last));
}

impl Call {
    fn until_end(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// No bytes do more than to be refused, and whoever says nothing or reads nothing is in nobody's
/// way.
#[test]
fn hostile_callers_are_refused_and_hold_nobody_up() {
    let (service, first) = start(&[]);
    let long = vec![b'x'; LONGEST_REQUEST + 1];
    let huge = vec![b'{'; 1 << 20];
    for (bytes, expected) in [
        (&b"\n"[..], Refusal::BadRequest),
        (b"GET / HTTP/1.1\r\n\r\n", Refusal::BadRequest),
        (b"\xff\x00\xfe\n", Refusal::BadRequest),
        (b"{\"command\":\"explode\"}\n", Refusal::UnknownCommand),
        (b"{\"command\":[[[[[[]]]]]]}\n", Refusal::BadRequest),
        (&long, Refusal::BadRequest),
        (&huge, Refusal::BadRequest),
    ] {
        let call = Call::raw(&service, bytes);
        let (kind, message) = refusal(&call.outcome());
        assert_eq!(kind, expected, "{message}");
    }
    // Ends without a line end, and without a line.
    for (bytes, answered) in [
        (&b"{\"command\":\"status\"}"[..], true),
        (b"{\"comm", false),
    ] {
        let mut call = Call::raw(&service, bytes);
        call.0.get_ref().shutdown(Shutdown::Write).unwrap();
        let event = call.next().unwrap();
        assert_eq!(matches!(event, Event::Status { .. }), answered, "{event:?}");
    }
    // Many that say nothing: the others are told that there is no room, and there is again soon.
    let mut silent: Vec<_> = (0..40).map(|_| Call::raw(&service, b"")).collect();
    let (kind, _) = refusal(&silent.pop().unwrap().outcome());
    assert_eq!(kind, Refusal::Busy);
    let slow = Call::raw(&service, b"{\"command\":");
    service.wait_until("there is room", || {
        let events = Call::new(&service, &Request::Status).outcome();
        matches!(events[0], Event::Status { .. })
    });
    let (kind, _) = refusal(&slow.outcome());
    assert!(
        [Refusal::TooSlow, Refusal::Busy].contains(&kind),
        "{kind:?}"
    );

    // One that never reads, and one that has gone.
    let deaf = Call::new(&service, &upgrade());
    drop(Call::raw(&service, b"{\"command\":\"status\"}\n"));
    let second = service.ready();
    service.gone(first.pid);
    let mut heard = String::new();
    deaf.0.into_inner().read_to_string(&mut heard).unwrap();
    assert!(heard.contains("drained"), "{heard}");
    assert_eq!(status(&service).pid, second.pid);
}

/// A caller must not be the last that is waited for.
#[test]
fn a_connection_to_the_control_socket_does_not_hold_the_drain() {
    let (mut service, first) = start(&[]);
    let _silent = Call::raw(&service, b"{");
    let begun = Instant::now();
    send(first.pid, Signal::TERM);
    assert!(service.first_ended().success());
    // Less than a request may take to arrive.
    assert!(begun.elapsed() < Duration::from_millis(4_500));
}

#[test]
fn a_changed_path_leaves_no_file_behind() {
    let (service, first) = Service::start(&[(server::CONTROL, "1")]);
    std::fs::write(service.path("control-name"), "elsewhere").unwrap();
    send(first.pid, Signal::HUP);
    let second = service.ready();
    service.gone(first.pid);
    service.wait_until("the old file is removed", || {
        !service.path("control").exists()
    });
    std::fs::rename(service.path("elsewhere"), service.path("control")).unwrap();
    assert_eq!(status(&service).pid, second.pid);
}
