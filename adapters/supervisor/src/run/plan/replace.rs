//! Ready processes, those that take their place, and those that die.

use std::time::Duration;

use super::{Action, Exit, Id, Leave, Note, Plan, Rollout, State, Time};

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
                self.spawn(worker, generation, now);
            }
            None => {
                self.rollout = None;
                self.actions
                    .push(Action::Say(Note::Replaced { generation }));
                self.next_rollout(now);
            }
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
        let until = now.saturating_add(self.settings.probation);
        process.state = State::Probation { until };
        self.actions.push(Action::Say(Note::Ready(id)));
        if until <= now || !self.older(id).any(|older| self.processes[&older].serves()) {
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
        let of_rollout =
            |rollout: &&Rollout| (rollout.worker, rollout.generation) == (worker, generation);
        if self.rollout.as_ref().filter(of_rollout).is_some() {
            self.advance(worker + 1, now);
        }
    }

    pub(super) fn exited(&mut self, id: Id, exit: &Exit, now: Time) {
        let Some(process) = self.processes.remove(&id) else {
            return;
        };
        let (worker, generation) = (process.worker, process.generation);
        let late = matches!(process.state, State::Starting { until: None, .. });
        let why = match late {
            true => "it was not ready in time, and was killed".to_owned(),
            false => exit.to_string(),
        };
        match process.state {
            State::Leaving { .. } => return,
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
            None if self.settings.restart => self.restart_later(worker, now),
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
        if !matches!(process.state, State::Serving { .. })
            && self.rollout.as_ref().filter(of_rollout).is_some()
        {
            self.rollout = None;
            self.actions.push(Action::Say(Note::NotReplaced {
                generation,
                why,
                timed_out: late,
            }));
            self.next_rollout(now);
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
