//! Ready processes, those that take their place, and those that die.

use std::time::Duration;

use super::{Action, Asked, Exit, Id, Leave, Note, Plan, Rollout, State, Time};

impl Plan {
    pub(super) fn replace(&mut self, now: Time) {
        if self.stop.is_some() {
            return;
        }
        if self.rollout.is_some() {
            self.again = true;
            self.actions.push(Action::Say(Note::Pending));
            return;
        }
        self.generation += 1;
        self.rollout = Some(Rollout {
            generation: self.generation,
            since: now,
            worker: 0,
            asked: None,
        });
        self.advance(0, now);
    }

    /// Replaces the first worker from this one on that is not of this generation already: one that
    /// was started anew meanwhile is.
    fn advance(&mut self, from: u32, now: Time) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        let generation = rollout.generation;
        let next = (from..self.workers.len() as u32).find(|worker| {
            let mut all = self.processes.values();
            !all.any(|process| {
                process.worker == *worker && process.generation >= generation && !process.leaves()
            })
        });
        match next {
            Some(worker) => {
                rollout.worker = worker;
                self.replace_worker(worker, generation, now);
            }
            None => {
                self.rollout = None;
                self.actions
                    .push(Action::Say(Note::Replaced { generation }));
                self.next_rollout(now);
            }
        }
    }

    fn replace_worker(&mut self, worker: u32, generation: u64, now: Time) {
        if let Some((of, id)) = self.under_way(worker) {
            let asked = Asked {
                id: of,
                until: None,
                heard: true,
                why: None,
            };
            if let Some(rollout) = &mut self.rollout {
                rollout.asked = Some(asked);
            }
            if let Some(process) = self.processes.get_mut(&id) {
                process.generation = generation;
            }
        } else if let Some((id, signal)) = self.can_be_asked(worker) {
            self.ask(id, signal, now);
        } else {
            self.spawn(worker, generation, now);
        }
    }

    pub(super) fn rollout_failed(&mut self, why: String, timed_out: bool, now: Time) {
        if let Some(rollout) = self.rollout.take() {
            self.actions.push(Action::Say(Note::NotReplaced {
                generation: rollout.generation,
                why,
                timed_out,
            }));
            self.next_rollout(now);
        }
    }

    fn next_rollout(&mut self, now: Time) {
        if std::mem::take(&mut self.again) {
            self.replace(now);
        }
    }

    pub(super) fn ready(&mut self, id: Id, now: Time) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let State::Starting { until: Some(_), .. } = process.state else {
            // Known already, killed, or leaving.
            return;
        };
        let of = process.of;
        if of.is_some_and(|of| self.stays(of)) {
            // Who has started it says who the main one is.
            return;
        }
        let until = now.saturating_add(self.settings.probation);
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        process.state = State::Probation { until };
        self.actions.push(Action::Say(Note::Ready(id)));
        let backed =
            self.has_backing(id) || self.older(id).any(|older| self.processes[&older].serves());
        if until <= now || !backed {
            self.commit(id, now);
        }
    }

    /// Those before it that were not told to leave.
    fn older(&self, id: Id) -> impl Iterator<Item = Id> {
        let worker = self.processes.get(&id).map(|process| process.worker);
        let before = self.processes.range(..id);
        before
            .filter(move |(_, process)| Some(process.worker) == worker && !process.leaves())
            .map(|(id, _)| *id)
    }

    /// It takes the place of those before it.
    pub(super) fn commit(&mut self, id: Id, now: Time) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        process.state = State::Serving { since: now };
        let (worker, generation) = (process.worker, process.generation);
        self.serving = self.serving.max(Some(generation));
        self.actions.push(Action::Say(Note::Serving(id)));
        let older: Vec<_> = self.older(id).collect();
        for older in older {
            self.leave(older, Leave::Replaced, now);
        }
        // Or one that has put itself there meanwhile.
        let of_rollout =
            |rollout: &&Rollout| rollout.worker == worker && rollout.generation <= generation;
        if self.rollout.as_ref().filter(of_rollout).is_some() {
            self.advance(worker + 1, now);
        }
    }

    pub(super) fn exited(&mut self, id: Id, exit: &Exit, now: Time) {
        let Some(process) = self.processes.remove(&id) else {
            return;
        };
        let (worker, generation) = (process.worker, process.generation);
        if !process.leaves() {
            for other in self.processes.values_mut() {
                other.of = match other.of {
                    Some(of) if of == id => process.of,
                    of => of,
                };
            }
        }
        let late = matches!(process.state, State::Starting { until: None, .. });
        let why = match late {
            true => "it was not ready in time, and was killed".to_owned(),
            false => exit.to_string(),
        };
        match process.state {
            State::Leaving { .. } => return self.does_not_come_back(worker, now),
            // It could start: what made it die may be over, so pauses do not grow.
            State::Serving { since } => {
                let stable = now.saturating_sub(since) >= self.settings.stable;
                let failures = &mut self.workers[worker as usize].failures;
                *failures = (*failures).min(u32::from(!stable));
            }
            _ => {}
        }
        let note = Note::Ended {
            id,
            why: why.clone(),
        };
        self.actions.push(Action::Say(note));
        // Whoever waits in its probation is all there is now.
        let next = self.processes.iter().rev();
        let mut next = next.filter(|(_, other)| other.worker == worker && !other.leaves());
        match next.next().map(|(id, other)| (*id, other.state.clone())) {
            Some((other, State::Probation { .. })) => self.commit(other, now),
            Some(_) => {}
            None if self.settings.restart => {
                self.restart_later(worker, now);
                if process.of.is_some_and(|of| self.may_come_back(of)) {
                    self.wait_for_word(worker, now);
                }
            }
            // The end of the last one is that of the service.
            None => {
                self.workers[worker as usize].restart_at = None;
                if self.processes.values().all(super::Process::leaves) {
                    self.stop(Some(exit.clone()), now);
                }
            }
        }
        let of_rollout =
            |rollout: &&Rollout| (rollout.worker, rollout.generation) == (worker, generation);
        let is_its = !matches!(process.state, State::Serving { .. })
            && self.rollout.as_ref().filter(of_rollout).is_some();
        if is_its && (late || !self.wait_for_reason(process.of, &why, now)) {
            self.rollout_failed(why, late, now);
        }
        self.asked_has_ended(id, now);
    }

    /// If it was asked to replace itself and has named nobody, one is started in its place.
    fn asked_has_ended(&mut self, id: Id, now: Time) {
        if self.asked(id).is_none() {
            return;
        }
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        rollout.asked = None;
        let (worker, generation) = (rollout.worker, rollout.generation);
        let stays = |process: &super::Process| process.worker == worker && !process.leaves();
        if self.ids(stays).is_empty() {
            self.spawn(worker, generation, now);
        }
    }

    fn restart_later(&mut self, worker: u32, now: Time) {
        let settings = &self.settings;
        let state = &mut self.workers[worker as usize];
        // The first time at once: whoever waits in the kernel's queue has waited enough.
        let pause = match state.failures {
            0 => Duration::ZERO,
            failures => {
                let factor = 1u32 << (failures - 1).min(16);
                settings
                    .backoff
                    .saturating_mul(factor)
                    .min(settings.backoff_max)
            }
        };
        state.failures = state.failures.saturating_add(1);
        state.restart_at = Some(now.saturating_add(pause));
        self.actions
            .push(Action::Say(Note::Waits { worker, pause }));
    }
}
