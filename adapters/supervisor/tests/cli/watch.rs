//! `handover status --watch`, on a terminal and without one.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use super::service::{Service, visit};

#[cfg(all(target_os = "linux", feature = "watch"))]
mod on_a_terminal {
    use super::*;
    use crate::terminal::Terminal;

    fn watch(service: &Service) -> Terminal {
        Terminal::start(&service.command(&["status", "--watch"]))
    }

    #[test]
    fn an_upgrade_is_shown_from_its_first_step_to_the_end_of_the_drain() {
        let (service, first, address) = Service::start();
        let visitor = visit(&address, &service);
        let mut terminal = watch(&service);
        terminal.until(&[&format!("generation 0 (pid {first})"), "running"]);
        assert!(terminal.is_taken());
        terminal.until(&["task", "a visitor"]);

        // One that is stuck.
        service.fault("hang");
        let mut stuck = service.command(&["upgrade"]);
        let mut stuck = stuck
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The escape is shown as what the terminal leaves out, and does nothing.
        terminal.until(&["[initialising]", "warming up ", "[31m"]);
        terminal.until(&["Upgrade, for ", "process "]);
        terminal.until(&["Upgrades (1 failed)"]);
        terminal.until(&["to generation 1", "ago"]);
        assert_eq!(stuck.wait().unwrap().code(), Some(1));

        service.fault("");
        std::fs::write(service.path("release"), "1.1.0").unwrap();
        let done = service.handover(&["upgrade", "--no-wait-for-drain"]);
        assert_eq!(done.status, Some(0), "{done}");
        let (second, _) = service.ready();
        terminal.until(&[&format!("generation 1 (pid {second})"), "running"]);
        // What the one before it waits for, and for how long at most.
        terminal.until(&["1 ", " 1.1.0 ", &format!(" {second} "), "running"]);
        terminal.until(&["0 ", " 1.0.0 ", &format!(" {first} "), "draining", " 14."]);
        terminal.until(&["task of 0", "a visitor"]);
        terminal.until(&["to generation 1", "serves"]);
        drop(visitor);
        let gone = std::time::Instant::now() + crate::service::PATIENCE;
        while terminal.text().contains("a visitor") {
            assert!(std::time::Instant::now() < gone, "{}", terminal.text());
        }
        terminal.press("q");
        assert_eq!(terminal.end(), Some(0));
    }

    #[test]
    fn control_c_leaves_the_terminal_as_it_was() {
        let (service, _, _) = Service::start();
        let mut terminal = watch(&service);
        terminal.until(&["generation 0", "running"]);
        terminal.press("x");
        terminal.press("\x03");
        assert_eq!(terminal.end(), Some(0));
    }

    #[test]
    fn a_drain_is_counted_down_and_its_end_is_said() {
        let (service, first, address) = Service::start();
        let visitor = visit(&address, &service);
        let mut terminal = watch(&service);
        let mut drain = service.command(&["drain"]);
        let mut drain = drain.stdout(Stdio::null()).spawn().unwrap();
        terminal.until(&[&format!("generation 0 (pid {first})"), "draining"]);
        let left = || terminal.until(&[" s until the deadline"]);
        let before = left();
        while left() == before {}
        drop(visitor);
        assert_eq!(drain.wait().unwrap().code(), Some(0));
        assert_eq!(terminal.end(), Some(5));
        terminal.until(&["handover: cannot connect to the control socket"]);
    }
}

#[test]
fn without_a_terminal_each_change_is_printed() {
    let (service, first, address) = Service::start();
    let visitor = visit(&address, &service);
    let mut command = service.command(&["status", "-w"]);
    let watch = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut until = |begin: &str| {
        for line in lines.by_ref() {
            let line = line.unwrap();
            assert!(!line.contains('\x1b'), "{line:?}");
            if line.starts_with(begin) {
                return line;
            }
        }
        panic!("it ends before {begin:?}");
    };
    until(&format!("generation 0 (pid {first}): running for "));
    until("                task a visitor, ");
    let done = service.handover(&["upgrade", "--no-wait-for-drain"]);
    assert_eq!(done.status, Some(0), "{done}");
    let (second, _) = service.ready();
    until(&format!("generation 1 (pid {second}): running for "));
    drop(visitor);
    // The one before it has gone.
    until("generation 1 ");
    assert_eq!(service.handover(&["drain"]).status, Some(0));
    let mut said = String::new();
    let mut stderr = watch.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(5), "{said}");
    assert!(
        said.contains("cannot connect to the control socket"),
        "{said}"
    );
}

#[test]
fn who_cannot_be_asked_is_not_watched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nobody");
    let args = ["status", "--watch", "--control", path.to_str().unwrap()];
    let ended = super::service::outcome(&mut super::service::program(&args));
    assert_eq!(ended.status, Some(4), "{ended}");
}

#[test]
fn changes_are_lines_of_json_where_asked_for() {
    let (service, first, _) = Service::start();
    let mut command = service.command(&["status", "--watch", "--json"]);
    let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> serde_json::Value {
        serde_json::from_str(&lines.next().expect("a line").unwrap()).unwrap()
    };
    assert_eq!(next()["status"]["pid"], first);
    assert_eq!(service.handover(&["upgrade"]).status, Some(0));
    while next()["status"]["generation"] != 1 {}
    watch.kill().unwrap();
    watch.wait().unwrap();
}
