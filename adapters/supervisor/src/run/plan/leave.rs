//! Processes that are told to leave, and the end of the service.

use super::{Action, Exit, Id, Leave, Note, Outcome, Plan, State, Stop, Time};

impl Plan {
    /// Tells a process to leave, and when it is killed if it does not.
    pub(super) fn leave(&mut self, id: Id, why: Leave, now: Time) {
        let after = match why {
            Leave::Replaced => self.settings.drain_timeout,
            Leave::Stop => self.settings.stop_timeout,
        };
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let worker = process.worker;
        process.state = State::Leaving {
            since: now,
            kill_at: after.map(|after| now.saturating_add(after)),
            killed: false,
            told: true,
        };
        self.actions.push(Action::Tell(id, why));
        self.bound_leaving(worker, None);
    }

    /// Ends the oldest that leave, if they are too many: at this time at the latest, or now.
    pub(super) fn bound_leaving(&mut self, worker: u32, at: Option<Time>) {
        let alive = |state: &State| matches!(state, State::Leaving { killed: false, .. });
        let leaving = self.ids(|process| process.worker == worker && alive(&process.state));
        let surplus = leaving
            .len()
            .saturating_sub(self.settings.max_draining.max(1));
        for id in leaving.into_iter().take(surplus) {
            match (at, self.state(id)) {
                (Some(at), Some(State::Leaving { kill_at, .. })) => {
                    *kill_at = Some(kill_at.map_or(at, |before| before.min(at)));
                }
                _ => self.overdue(id),
            }
        }
    }

    /// Ends the service. `exit` is of the process that has ended it, if none was told to.
    pub(super) fn stop(&mut self, exit: Option<Exit>, now: Time) {
        if self.stop.is_some() {
            return self.cut();
        }
        let deadline = self
            .settings
            .stop_timeout
            .map(|after| now.saturating_add(after));
        self.stop = Some(Stop {
            since: now,
            deadline,
            outcome: Outcome { killed: 0, exit },
        });
        self.actions.push(Action::Say(Note::Stopping));
        for worker in &mut self.workers {
            (worker.restart_at, worker.waits_for_word) = (None, false);
        }
        self.again = false;
        if let Some(rollout) = self.rollout.take() {
            self.actions.push(Action::Say(Note::NotReplaced {
                generation: rollout.generation,
                why: "the service was told to stop".to_owned(),
                timed_out: false,
            }));
        }
        // Those that have handed over wait for what becomes of their successors no longer.
        for id in self.ids(|_| true) {
            if self.may_come_back(id)
                && let Some(State::Leaving { told, .. }) = self.state(id)
            {
                *told = true;
                self.actions.push(Action::Tell(id, Leave::Stop));
            }
        }
        let stay = self.ids(|process| !process.leaves());
        for id in &stay {
            let process = &self.processes[id];
            let starts = matches!(process.state, State::Starting { .. });
            match process.of.filter(|of| starts && stay.contains(of)) {
                // Who has started it is told, and ends it, or tells it.
                Some(_) => self.left_to_predecessor(*id, now),
                None => self.leave(*id, Leave::Stop, now),
            }
        }
        // One deadline for all: those that drain from before have no more time.
        for process in self.processes.values_mut() {
            if let (State::Leaving { kill_at, .. }, Some(deadline)) = (&mut process.state, deadline)
            {
                *kill_at = Some(kill_at.map_or(deadline, |at| at.min(deadline)));
            }
        }
    }

    /// Kills whatever leaves.
    pub(super) fn cut(&mut self) {
        let alive = |state: &State| matches!(state, State::Leaving { killed: false, .. });
        for id in self.ids(|process| alive(&process.state)) {
            self.overdue(id);
        }
    }

    pub(super) fn overdue(&mut self, id: Id) {
        if let Some(State::Leaving { killed, .. }) = self.state(id) {
            *killed = true;
        }
        if let Some(stop) = &mut self.stop {
            stop.outcome.killed += 1;
        }
        self.actions.push(Action::Say(Note::Overdue(id)));
        self.actions.push(Action::Kill(id));
    }

    /// Says that all is over, once it is.
    pub(super) fn finish(&mut self) {
        if let Some(stop) = &self.stop
            && self.processes.is_empty()
        {
            self.actions.push(Action::Finish(stop.outcome.clone()));
        }
    }
}
