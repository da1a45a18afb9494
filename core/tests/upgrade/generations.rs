//! More than two generations at a time.

use handover::control::{Event, Refusal, Request};
use rustix::process::Signal;

use super::{
    control::{self, Call, status},
    server,
    service::{Ready, Service, alive, connect, send},
};

/// Upgrades until there are this many, each of which holds a connection.
fn generations(service: &Service, first: Ready, count: usize) -> (Vec<Ready>, Vec<impl Sized>) {
    let address = first.addresses[0].clone();
    let mut all = vec![first];
    let mut held = Vec::new();
    loop {
        let newest = all[all.len() - 1].clone();
        service.served_by(&address, newest.pid);
        let mut open = connect(&address);
        assert_eq!(open.ask("pid"), newest.pid.to_string());
        held.push(open);
        if all.len() == count {
            return (all, held);
        }
        send(newest.pid, Signal::HUP);
        all.push(service.ready());
    }
}

fn older(service: &Service) -> Vec<u32> {
    let older = status(service).older;
    older.iter().map(|older| older.pid).collect()
}

/// Fails if the bound is not kept, or if another than the oldest has to go.
#[test]
fn beyond_the_bound_the_oldest_is_cut() {
    let env = [(server::MAX_DRAINING, "2")];
    let (service, first) = control::start(&env);
    let (all, _held) = generations(&service, first, 3);
    let pids: Vec<_> = all.iter().map(|one| one.pid).collect();
    service.wait_until("both are known", || older(&service) == pids[..2]);
    assert!(pids.iter().all(|pid| alive(*pid)));

    let newest = pids[2];
    send(newest, Signal::HUP);
    let fourth = service.ready();
    service.gone(pids[0]);
    service.logged("too many generations drain");
    service.wait_until("it is known", || older(&service) == pids[1..]);
    assert!(alive(pids[1]) && alive(pids[2]) && alive(fourth.pid));
    let log = service.log();
    assert!(
        log.contains("cutting: a later generation asks for it"),
        "{log}"
    );
}

/// Fails if a generation is forgotten because the one after it has gone first.
#[test]
fn older_generations_are_known_whoever_goes_first() {
    let (service, first) = control::start(&[]);
    let (all, mut held) = generations(&service, first, 4);
    let pids: Vec<_> = all.iter().map(|one| one.pid).collect();
    service.wait_until("all are known", || older(&service) == pids[..3]);
    service.wait_until("they say what they hold", || {
        let status = status(&service);
        let guards = |older: &handover::status::Older| older.held.as_ref().map(|held| held.guards);
        status.older.iter().all(|older| guards(older) >= Some(1))
    });
    // One ends by itself, the next by force.
    drop(held.remove(2));
    service.gone(pids[2]);
    send(pids[1], Signal::KILL);
    service.gone(pids[1]);
    service.wait_until("one is left", || older(&service) == pids[..1]);

    let events = Call::new(&service, &Request::Cut).outcome();
    let [Event::Cut { pids: cut, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(cut, &pids[..1]);
    service.gone(pids[0]);
    service.wait_until("none is left", || older(&service).is_empty());
    let events = Call::new(&service, &Request::Cut).outcome();
    let [
        Event::Refused {
            kind: Refusal::NothingDrains,
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert!(alive(pids[3]));
}
