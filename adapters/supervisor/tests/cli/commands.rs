//! What goes well.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use super::service::{Service, visit};

#[test]
fn an_upgrade_is_shown_step_by_step_and_waits_for_the_drain() {
    let (service, first, address) = Service::start();
    let visitor = visit(&address, &service);
    let mut command = service.command(&["upgrade"]);
    let mut upgrade = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(upgrade.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    assert_eq!(line(), format!("generation 0 (pid {first}) answers"));
    let starts = line();
    assert!(starts.ends_with(" starts, generation 1"), "{starts}");
    // What would command a terminal is not shown.
    let progress = line();
    assert!(
        progress.ends_with(": warming up \u{fffd}[31m"),
        "{progress}"
    );
    let (second, _) = service.ready();
    assert_eq!(line(), format!("process {second} is ready"));
    assert_eq!(line(), format!("process {second} serves, generation 1"));
    let drains = line();
    let expected = format!("process {first} drains: 0 connections, 0 requests, 1 task");
    assert!(drains.starts_with(&expected), "{drains}");
    assert!(
        drains.contains("at most 14 s more") || drains.contains("at most 15 s"),
        "{drains}"
    );
    drop(visitor);
    let drained = loop {
        let line = line();
        if !line.contains("drains:") {
            break line;
        }
    };
    assert!(
        drained.starts_with(&format!("process {first}: drained in ")),
        "{drained}"
    );
    assert!(upgrade.wait().unwrap().success());
    assert!(
        service
            .handover(&["status"])
            .out
            .starts_with("generation 1 ")
    );
}

#[test]
fn an_upgrade_need_not_wait_for_the_drain() {
    let (service, _, address) = Service::start();
    let _visitor = visit(&address, &service);
    let done = service.handover(&["upgrade", "--no-wait-for-drain"]);
    assert_eq!(done.status, Some(0), "{done}");
    assert!(
        done.out.trim_end().ends_with("serves, generation 1"),
        "{done}"
    );
}

#[test]
fn a_status_is_for_people_or_for_programs() {
    let (service, first, address) = Service::start();
    let _visitor = visit(&address, &service);
    let status = service.handover(&["status"]);
    assert_eq!(status.status, Some(0), "{status}");
    let begins = format!("generation 0 (pid {first}): running for ");
    assert!(status.out.starts_with(&begins), "{status}");
    for text in [&*format!("tcp {address}"), "1 × task", "holds"] {
        assert!(status.out.contains(text), "{text}: {status}");
    }
    let path = service.path("control");
    let json = ["status", "--json", "--control", path.to_str().unwrap()];
    let status = super::service::outcome(&mut super::service::program(&json));
    let value: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(value["event"], "status");
    assert_eq!(value["status"]["pid"], first);
    assert_eq!(value["status"]["listeners"][0]["address"], *address);
}

#[test]
fn events_are_lines_of_json_where_asked_for() {
    let (service, first, _) = Service::start();
    let done = service.handover(&["upgrade", "--json", "--if-generation", "0"]);
    assert_eq!(done.status, Some(0), "{done}");
    let events: Vec<serde_json::Value> = done
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    names.retain(|name| *name != "draining");
    let expected = [
        "begun",
        "starting",
        "initialising",
        "ready",
        "serving",
        "drained",
    ];
    assert_eq!(names, expected);
    assert_eq!(events[0]["pid"], first);
    assert!(done.err.is_empty(), "{done}");
}

#[test]
fn a_drain_ends_the_service_and_its_socket() {
    let (service, first, _) = Service::start();
    let done = service.handover(&["drain"]);
    assert_eq!(done.status, Some(0), "{done}");
    assert!(
        done.out.contains(&format!("process {first}: drained in ")),
        "{done}"
    );
    assert!(!service.path("control").exists());
    assert_eq!(service.handover(&["status"]).status, Some(4));
}

#[test]
fn a_cut_ends_a_drain_that_waits_and_that_one_was_cut_is_in_the_status() {
    let (service, _, address) = Service::start();
    let _visitor = visit(&address, &service);
    let mut command = service.command(&["drain"]);
    let mut drain = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(drain.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("drains:") {}
    let cut = service.handover(&["cut"]);
    assert_eq!(cut.status, Some(7), "{cut}");
    assert!(cut.out.contains("cut 1: task a visitor"), "{cut}");
    assert_eq!(drain.wait().unwrap().code(), Some(7));
}
