//! Processes that have handed over, and serve again because their successor has died.

use super::{Action, Id, Leave, Note, Plan, Process, State, Time, succeed::WORD};

impl Plan {
    /// One that has handed over serves again: its successor has died, or is about to.
    pub(super) fn comes_back(&mut self, id: Id, worker: u32, now: Time) {
        let of = self.processes.get(&id).and_then(|process| process.of);
        let older =
            |other: &Id| *other < id && of != Some(*other) && self.processes[other].serves();
        let needed = !self.staying(worker).any(|other| older(&other));
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let generation = process.generation;
        if needed {
            process.state = State::Serving { since: now };
        }
        let mut failed = None;
        let rollout = self.rollout.as_ref();
        let of_rollout = |process: &Process| {
            rollout.is_some_and(|rollout| {
                (rollout.worker, rollout.generation) == (worker, process.generation)
            })
        };
        let mut aside = Vec::new();
        let mut surplus = Vec::new();
        for other in self.staying(worker).filter(|other| *other != id) {
            let process = &self.processes[&other];
            if self.comes_after(process, id) || of == Some(other) {
                if of_rollout(process) {
                    failed = Some("it has died, and the one before serves again".to_owned());
                }
                aside.push(other);
            } else if matches!(process.state, State::Starting { .. }) && !of_rollout(process) {
                // It was to take the place that is taken again.
                surplus.push(other);
            }
        }
        for other in aside {
            if of != Some(other) {
                self.set_aside(other, now);
                continue;
            }
            if self.asked(other).is_some() {
                failed = Some("one that had failed serves after all".to_owned());
            }
            self.hands_over(other, now);
        }
        for other in surplus {
            self.end_at_once(other, now);
        }
        if needed {
            let place = &mut self.workers[worker as usize];
            (place.restart_at, place.waits_for_word) = (None, false);
            self.serving = Some(generation);
            self.actions.push(Action::Say(Note::Back(id)));
        } else {
            // It was to replace one that serves, and has failed.
            self.leave(id, Leave::Stop, now);
        }
        if let Some(why) = failed {
            self.rollout_failed(why, false, now);
        }
        // A newer one that serves is enough.
        let newer = |other: &Id| *other > id && self.processes[other].serves();
        if self.staying(worker).any(|other| newer(&other)) {
            self.leave(id, Leave::Replaced, now);
        }
    }

    /// Whether somebody who has handed over to this one may come back for it.
    pub(super) fn has_backing(&self, id: Id) -> bool {
        let of = self.processes.get(&id).and_then(|process| process.of);
        of.is_some_and(|of| self.may_come_back(of))
    }

    pub(super) fn may_come_back(&self, id: Id) -> bool {
        self.processes.get(&id).is_some_and(|process| {
            matches!(
                process.state,
                State::Leaving {
                    told: false,
                    killed: false,
                    ..
                }
            )
        })
    }

    /// A process that had handed over has ended, so nobody waits for it to come back.
    pub(super) fn does_not_come_back(&mut self, worker: u32, now: Time) {
        let nobody = self.staying(worker).next().is_none();
        if let Some(state) = self.workers.get_mut(worker as usize)
            && nobody
            && state.waits_for_word
        {
            state.waits_for_word = false;
            state.restart_at = state.restart_at.map(|at| at.min(now));
        }
    }

    /// The worker has nobody, but one that may come back.
    pub(super) fn wait_for_word(&mut self, worker: u32, now: Time) {
        let state = &mut self.workers[worker as usize];
        let word = now.saturating_add(WORD);
        if state.restart_at.is_some_and(|at| at < word) {
            (state.restart_at, state.waits_for_word) = (Some(word), true);
        }
    }
}
