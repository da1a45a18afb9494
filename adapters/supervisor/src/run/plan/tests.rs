use std::time::Duration;

use super::*;

const S: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        workers: 1,
        ready_after: None,
        start_timeout: 60 * S,
        probation: Duration::ZERO,
        drain_timeout: Some(30 * S),
        stop_timeout: Some(20 * S),
        max_draining: 8,
        restart: true,
        backoff: S,
        backoff_max: 4 * S,
        stable: 10 * S,
        asks: true,
        answer: 5 * S,
    }
}

/// A plan, its clock, and what it has asked for since the last look.
struct Run {
    plan: Plan,
    now: Time,
    actions: Vec<Action>,
}

impl Run {
    fn new(settings: Settings) -> Self {
        let mut run = Self {
            plan: Plan::new(settings, Duration::ZERO),
            now: Duration::ZERO,
            actions: Vec::new(),
        };
        run.event(Event::Tick);
        run
    }

    fn event(&mut self, event: Event) {
        let actions = self.plan.handle(event, self.now);
        self.actions.extend(actions);
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
        self.event(Event::Tick);
    }

    fn dies(&mut self, id: Id) {
        self.event(Event::Exited(id, Exit::Status(1)));
    }

    /// What was asked for, without the notes.
    fn done(&mut self) -> Vec<Action> {
        let actions = std::mem::take(&mut self.actions);
        actions
            .into_iter()
            .filter(|one| !matches!(one, Action::Say(_)))
            .collect()
    }

    fn said(&mut self) -> Vec<Note> {
        let say = |one| match one {
            Action::Say(note) => Some(note),
            _ => None,
        };
        std::mem::take(&mut self.actions)
            .into_iter()
            .filter_map(say)
            .collect()
    }
}

fn spawn(id: Id, worker: u32, generation: u64) -> Action {
    Action::Spawn {
        id,
        worker,
        generation,
    }
}

/// One that serves.
fn serving(settings: Settings) -> Run {
    let mut run = Run::new(settings);
    run.event(Event::Ready(0));
    run.done();
    run
}

#[test]
fn the_new_one_is_ready_before_the_old_one_is_told() {
    let mut run = serving(settings());
    run.event(Event::Replace);
    assert_eq!(run.done(), [spawn(1, 0, 1)]);
    run.after(5 * S);
    assert_eq!(run.done(), []);
    run.event(Event::Ready(1));
    assert_eq!(run.done(), [Action::Tell(0, Leave::Replaced)]);
    assert_eq!(run.plan.serving(), Some(1));
    run.after(30 * S);
    assert_eq!(run.done(), [Action::Kill(0)]);
    run.dies(0);
    assert_eq!((run.done(), run.plan.next()), (vec![], None));
}

#[test]
fn a_new_one_that_fails_changes_nothing() {
    for late in [false, true] {
        let mut run = serving(settings());
        run.event(Event::Replace);
        if late {
            run.after(60 * S);
            assert_eq!(run.done(), [spawn(1, 0, 1), Action::Kill(1)]);
            // Too late.
            run.event(Event::Ready(1));
        }
        run.actions.clear();
        run.dies(1);
        let said = run.said();
        let failed =
            |note: &Note| matches!(note, Note::NotReplaced { timed_out, .. } if *timed_out == late);
        assert!(said.iter().any(failed), "{said:?}");
        assert_eq!((run.done(), run.plan.next()), (vec![], None));
        assert!(run.plan.is_complete());
    }
}

/// What socketmaster does: an old one that drains counts for one that serves.
#[test]
fn a_new_one_that_fails_while_an_older_one_drains_changes_nothing() {
    let mut run = serving(settings());
    run.event(Event::Replace);
    run.event(Event::Ready(1));
    run.event(Event::Replace);
    run.done();
    run.dies(2);
    assert_eq!(run.done(), []);
    assert!(run.plan.process(1).unwrap().serves());
}

#[test]
fn probation_is_lived_through_before_the_old_one_is_told() {
    let with = Settings {
        probation: 3 * S,
        ..settings()
    };
    let mut run = serving(with.clone());
    run.event(Event::Replace);
    run.event(Event::Ready(1));
    run.after(2 * S);
    assert_eq!(run.done(), [spawn(1, 0, 1)]);
    run.dies(1);
    assert_eq!(run.done(), [], "ready and dead: the old one goes on");

    run.event(Event::Replace);
    run.event(Event::Ready(2));
    run.done();
    run.dies(0);
    assert_eq!(run.done(), []);
    assert!(
        matches!(run.plan.process(2).unwrap().state, State::Serving { .. }),
        "it is all there is"
    );

    run.event(Event::Replace);
    run.event(Event::Ready(3));
    run.after(3 * S);
    assert_eq!(
        run.done(),
        [spawn(3, 0, 3), Action::Tell(2, Leave::Replaced)]
    );
}

#[test]
fn who_says_nothing_is_ready_by_time_and_who_speaks_is_not() {
    let with = Settings {
        ready_after: Some(3 * S),
        ..settings()
    };
    let mut run = Run::new(with);
    run.after(3 * S);
    assert!(run.plan.is_complete());
    run.event(Event::Replace);
    run.event(Event::Speaks(1));
    run.after(30 * S);
    assert!(matches!(
        run.plan.process(1).unwrap().state,
        State::Starting { .. }
    ));
    run.event(Event::Extend(1, 100 * S));
    run.after(99 * S);
    run.done();
    run.event(Event::Ready(1));
    assert_eq!(run.done(), [Action::Tell(0, Leave::Replaced)]);
}

#[test]
fn after_a_crash_it_is_started_at_once_and_then_ever_later() {
    let mut run = serving(settings());
    let mut pauses = Vec::new();
    for id in 0..6 {
        run.dies(id);
        let before = run.now;
        while run.plan.process(id + 1).is_none() {
            run.now = run.plan.next().unwrap();
            run.event(Event::Tick);
        }
        pauses.push((run.now - before).as_secs());
    }
    assert_eq!(pauses, [0, 1, 2, 4, 4, 4]);
    // One that has served is no such failure.
    run.event(Event::Ready(6));
    for id in [6, 7] {
        run.after(S);
        run.done();
        run.dies(id);
        assert_eq!(run.plan.next(), Some(run.now + S));
        run.after(S);
        run.event(Event::Ready(id + 1));
    }
    run.dies(8);
    run.after(S);
    let mut run = serving(settings());
    run.dies(0);
    run.dies(1);
    run.after(S);
    run.event(Event::Ready(2));
    // It has served long enough to be none at all.
    run.after(10 * S);
    run.done();
    run.dies(2);
    assert_eq!(run.done(), [spawn(3, 0, 3)]);
}

#[test]
fn of_many_wishes_one_is_kept() {
    let mut run = serving(settings());
    for _ in 0..5 {
        run.event(Event::Replace);
    }
    assert_eq!(run.done(), [spawn(1, 0, 1)]);
    run.event(Event::Ready(1));
    assert_eq!(
        run.done(),
        [Action::Tell(0, Leave::Replaced), spawn(2, 0, 2)]
    );
    run.dies(2);
    assert_eq!(run.done(), []);
    // Also after a failure.
    run.event(Event::Replace);
    run.event(Event::Replace);
    run.done();
    run.dies(3);
    assert_eq!(run.done(), [spawn(4, 0, 4)]);
}

#[test]
fn workers_are_replaced_one_by_one() {
    let with = Settings {
        workers: 3,
        ..settings()
    };
    let mut run = Run::new(with);
    assert_eq!(run.done(), [spawn(0, 0, 0), spawn(1, 1, 0), spawn(2, 2, 0)]);
    (0..3).for_each(|id| run.event(Event::Ready(id)));
    run.event(Event::Replace);
    // One that was started anew meanwhile is new.
    run.dies(1);
    run.done();
    run.event(Event::Ready(4));
    run.event(Event::Ready(3));
    let expected = [Action::Tell(0, Leave::Replaced), spawn(5, 2, 1)];
    assert_eq!(run.done(), expected);
    run.event(Event::Ready(5));
    assert_eq!(run.done(), [Action::Tell(2, Leave::Replaced)]);
    assert!(run.plan.rollout().is_none() && run.plan.is_complete());
}

#[test]
fn a_stop_ends_all_within_one_deadline() {
    let mut run = serving(settings());
    run.event(Event::Replace);
    run.event(Event::Ready(1));
    run.after(15 * S);
    run.event(Event::Replace);
    run.done();
    run.event(Event::Stop);
    let told = [Action::Tell(1, Leave::Stop), Action::Tell(2, Leave::Stop)];
    assert_eq!(run.done(), told);
    run.event(Event::Replace);
    assert_eq!(run.done(), []);
    run.dies(2);
    run.after(15 * S);
    assert_eq!(run.done(), [Action::Kill(0)], "its own deadline was before");
    run.dies(0);
    run.after(5 * S);
    assert_eq!(run.done(), [Action::Kill(1)]);
    run.event(Event::Exited(1, Exit::Signal(9)));
    let outcome = Outcome {
        killed: 2,
        exit: None,
    };
    assert_eq!(run.done(), [Action::Finish(outcome)]);
}

#[test]
fn a_second_stop_kills_and_a_stop_of_nobody_is_the_end() {
    let mut run = serving(settings());
    run.event(Event::Stop);
    run.done();
    run.event(Event::Stop);
    assert_eq!(run.done(), [Action::Kill(0)]);

    let mut run = serving(settings());
    run.dies(0);
    run.dies(1);
    run.done();
    run.event(Event::Stop);
    assert_eq!(run.done(), [Action::Finish(Outcome::default())]);
}

#[test]
fn no_more_drain_than_may() {
    let with = Settings {
        max_draining: 2,
        drain_timeout: None,
        ..settings()
    };
    let mut run = serving(with);
    for id in 1..=3 {
        run.event(Event::Replace);
        run.event(Event::Ready(id));
    }
    let killed: Vec<_> = run
        .done()
        .into_iter()
        .filter(|one| matches!(one, Action::Kill(_)))
        .collect();
    assert_eq!(killed, [Action::Kill(0)]);
}

#[test]
fn without_a_restart_the_end_of_the_last_is_the_end() {
    let with = Settings {
        restart: false,
        ..settings()
    };
    let mut run = serving(with.clone());
    run.event(Event::Replace);
    run.dies(1);
    run.done();
    run.event(Event::Exited(0, Exit::Status(3)));
    let outcome = Outcome {
        killed: 0,
        exit: Some(Exit::Status(3)),
    };
    assert_eq!(run.done(), [Action::Finish(outcome)]);
}

#[test]
fn fewer_workers_after_an_exec_leave_and_more_come() {
    let with = |workers| Settings {
        workers,
        ..settings()
    };
    let mut run = Run::new(with(2));
    (0..2).for_each(|id| run.event(Event::Ready(id)));
    let text = serde_json::to_string(&run.plan).unwrap();
    let read = || serde_json::from_str::<Plan>(&text).unwrap();
    let (_, actions) = read().resume(with(1), run.now);
    assert_eq!(actions, [Action::Tell(1, Leave::Replaced)]);
    let (mut plan, actions) = read().resume(with(3), run.now);
    assert_eq!(actions, []);
    assert_eq!(plan.handle(Event::Tick, run.now), [spawn(2, 2, 0)]);
}

/// Every order of everything that can happen, up to a depth.
#[test]
fn whatever_happens_the_invariants_hold() {
    for (workers, asks, depth) in [(1, false, 6), (2, false, 4), (1, true, 4), (2, true, 3)] {
        let with = Settings {
            workers,
            probation: 2 * S,
            max_draining: 2,
            asks,
            ..settings()
        };
        let mut plan = Plan::new(with, Duration::ZERO);
        let actions = plan.handle(Event::Tick, Duration::ZERO);
        check(&plan, &plan, &actions);
        if asks {
            // What comes before is explored without.
            for id in 0..u64::from(workers) {
                plan.handle(Event::Ready(id), Duration::ZERO);
                plan.handle(Event::Upgradable(id, Some(1)), Duration::ZERO);
            }
        }
        let mut seen = 0;
        explore(&plan, Duration::ZERO, depth, &mut seen);
        assert!(seen > 2_000, "{seen}");
    }
}

fn explore(plan: &Plan, now: Time, depth: u32, seen: &mut u32) {
    *seen += 1;
    if depth == 0 {
        return ends(plan.clone(), now);
    }
    let mut events = vec![(Event::Replace, now), (Event::Stop, now), (Event::Cut, now)];
    if let Some(asked) = plan.rollout.as_ref().and_then(|one| one.asked.as_ref()) {
        events.push((Event::Reloading(asked.id), now));
        events.push((Event::NotReplaced(asked.id, "no".to_owned()), now));
    }
    events.extend(plan.next().map(|next| (Event::Tick, next.max(now))));
    for (id, process) in plan.processes() {
        events.push((Event::Exited(id, Exit::Status(0)), now));
        if matches!(process.state, State::Starting { .. }) {
            events.push((Event::Ready(id), now));
        }
        if plan.settings.asks {
            events.push((Event::Main(id), now));
            events.push((Event::Successor { of: id }, now));
            events.push((Event::NewMain { of: id }, now));
            events.push((Event::Stopping(id), now));
            if process.upgrade_signal.is_none() {
                events.push((Event::Upgradable(id, Some(1)), now));
            }
        }
    }
    for (event, now) in events {
        let mut next = plan.clone();
        let actions = next.handle(event, now);
        check(plan, &next, &actions);
        if !actions
            .iter()
            .any(|action| matches!(action, Action::Finish(_)))
        {
            explore(&next, now, depth - 1, seen);
        }
    }
}

fn check(before: &Plan, plan: &Plan, actions: &[Action]) {
    for worker in 0..plan.workers.len() as u32 {
        let killed =
            |process: &Process| matches!(process.state, State::Starting { until: None, .. });
        let stay =
            |process: &&Process| process.worker == worker && !process.leaves() && !killed(process);
        let dying = plan.processes.values().any(killed);
        let stay = plan.processes.values().filter(stay).count();
        let comes = plan.workers[worker as usize].restart_at.is_some();
        assert!(stay <= 2, "3: {before:#?}{plan:#?}");
        assert!(
            plan.stop.is_some() || stay > 0 || comes || dying,
            "4: {plan:#?}"
        );
    }
    for action in actions {
        match action {
            Action::Tell(id, Leave::Replaced) => {
                let worker = plan.processes[id].worker;
                let newer = plan.processes.range(id + 1..);
                let mut newer = newer.filter(|(_, other)| other.worker == worker);
                // It may have died, or been told to leave, in the same call: not within one event.
                assert!(newer.any(|(_, other)| other.serves()), "1: {plan:#?}");
            }
            Action::Spawn { .. } => assert!(before.stop.is_none(), "5: {plan:#?}"),
            Action::Ask(id, _) => {
                let process = &plan.processes[id];
                let serves = matches!(process.state, State::Serving { .. });
                assert!(serves && process.upgrade_signal.is_some(), "6: {plan:#?}");
            }
            _ => {}
        }
        if let Action::Tell(id, _) = action {
            let told = before.processes.get(id).map(|process| &process.state);
            let told = matches!(told, Some(State::Leaving { told: true, .. }));
            assert!(!told, "6: {before:#?}{plan:#?}");
        }
    }
    let waits_for = |rollout: &Rollout| {
        let comes = |process: &Process| {
            let its = (rollout.worker, rollout.generation) == (process.worker, process.generation);
            its && !process.leaves() && !matches!(process.state, State::Serving { .. })
        };
        rollout.asked_until().is_some() || plan.processes.values().any(comes)
    };
    assert!(
        plan.rollout.iter().all(waits_for),
        "it ends: {before:#?}{plan:#?}"
    );
    if plan.stop.is_some() {
        assert!(plan.processes.values().all(Process::leaves), "5: {plan:#?}");
    }
    let text = serde_json::to_string(plan).unwrap();
    assert_eq!(&serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

/// From everywhere a stop comes to its end, if killed processes die.
fn ends(mut plan: Plan, mut now: Time) {
    let mut actions = match plan.stop {
        Some(_) => plan.handle(Event::Tick, now),
        None => plan.handle(Event::Stop, now),
    };
    for _ in 0..100 {
        if actions
            .iter()
            .any(|action| matches!(action, Action::Finish(_)))
        {
            return;
        }
        let killed =
            |process: &Process| matches!(process.state, State::Leaving { killed: true, .. });
        actions = match plan.ids(killed).first() {
            Some(id) => plan.handle(Event::Exited(*id, Exit::Signal(9)), now),
            None => {
                now = plan.next().expect("somebody is to be killed").max(now);
                plan.handle(Event::Tick, now)
            }
        };
    }
    panic!("no end: {plan:#?}");
}
