//! Processes that replace themselves: they start their successor, and say who is the main one.
//!
//! ```text
//!   serves ── asked ──▶ reloads ── names a successor ──▶ it is the main one ──▶ leaves by itself
//!     ▲          │ no answer         │ it fails                │ it dies, and the first says that
//!     │          ▼                   ▼                         │ it is the main one again
//!     │     we start one        serves on                      │
//!     └────────────────────────────────────────────────────────┘
//! ```

use std::time::Duration;

use super::{Action, Asked, Id, Leave, Note, Plan, Process, State, Time};

/// How long one that has started to replace itself, and whose successor has died, may take to say
/// why, and one that has handed over to say that it serves again.
pub(super) const WORD: Duration = Duration::from_secs(2);
/// How much more time one that leaves by itself has than one that was told to: its own deadline,
/// at which it ends what is left in good order, may be the same.
const GRACE: Duration = Duration::from_secs(2);

impl Plan {
    /// Who may be asked to replace itself in this worker, and by which signal.
    pub(super) fn can_be_asked(&self, worker: u32) -> Option<(Id, i32)> {
        if !self.settings.asks {
            return None;
        }
        let mut stay = self.staying(worker);
        let (id, process) = (stay.next()?, stay.next());
        match (&self.processes[&id], process) {
            (one, None) if matches!(one.state, State::Serving { .. }) => {
                Some((id, one.upgrade_signal?))
            }
            _ => None,
        }
    }

    /// Those of a worker that were not told to leave, and do not leave.
    pub(super) fn staying(&self, worker: u32) -> impl Iterator<Item = Id> {
        let stay = move |process: &&Process| process.worker == worker && !process.leaves();
        let all = self.processes.iter();
        all.filter(move |(_, process)| stay(process))
            .map(|(id, _)| *id)
    }

    /// Somebody in this worker who replaces itself already: what was asked for is under way.
    pub(super) fn under_way(&self, worker: u32) -> Option<(Id, Id)> {
        let mut stay = self.staying(worker);
        stay.find_map(|id| {
            let process = &self.processes[&id];
            let starts = matches!(process.state, State::Starting { until: Some(_), .. });
            let of = process.of.filter(|of| starts && self.stays(*of))?;
            Some((of, id))
        })
    }

    pub(super) fn stays(&self, id: Id) -> bool {
        self.processes
            .get(&id)
            .is_some_and(|process| !process.leaves())
    }

    /// Asks a process to replace itself.
    pub(super) fn ask(&mut self, id: Id, signal: i32, now: Time) {
        if let Some(rollout) = &mut self.rollout {
            rollout.asked = Some(Asked {
                id,
                until: Some(now.saturating_add(self.settings.answer)),
                heard: false,
                why: None,
            });
            self.actions.push(Action::Ask(id, signal));
        }
    }

    /// Who was asked, if it was this one.
    pub(super) fn asked(&mut self, id: Id) -> Option<&mut Asked> {
        let asked = self.rollout.as_mut()?.asked.as_mut();
        asked.filter(|asked| asked.id == id)
    }

    pub(super) fn reloading(&mut self, id: Id, now: Time) {
        let until = now.saturating_add(self.settings.start_timeout);
        if let Some(asked) = self.asked(id)
            && !asked.heard
        {
            (asked.heard, asked.until) = (true, Some(until));
        }
    }

    /// It serves on: its successor has failed.
    pub(super) fn not_replaced(&mut self, id: Id, why: String, now: Time) {
        let Some(asked) = self.asked(id).filter(|asked| asked.heard) else {
            return;
        };
        asked.until = None;
        for other in self.successors(id) {
            self.set_aside(other, now);
        }
        self.rollout_failed(why, false, now);
    }

    /// Those that were started by this one, or by one of those, and do not leave.
    fn successors(&self, of: Id) -> Vec<Id> {
        self.ids(|process| !process.leaves() && self.comes_after(process, of))
    }

    pub(super) fn comes_after(&self, process: &Process, before: Id) -> bool {
        let up = |id: &Id| self.processes.get(id).and_then(|process| process.of);
        std::iter::successors(process.of, up).any(|one| one == before)
    }

    /// Who was asked has said nothing in time, or not enough.
    pub(super) fn asked_in_vain(&mut self, now: Time) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        let overdue = |asked: &&Asked| asked.until.is_some_and(|until| until <= now);
        let Some(asked) = rollout.asked.as_ref().filter(overdue).cloned() else {
            return;
        };
        if asked.heard {
            let timed_out = asked.why.is_none();
            let why = asked.why;
            let why = why.unwrap_or_else(|| "it has started no successor in time".to_owned());
            return self.rollout_failed(why, timed_out, now);
        }
        rollout.asked = None;
        let (worker, generation) = (rollout.worker, rollout.generation);
        self.actions.push(Action::Say(Note::NoAnswer(asked.id)));
        self.spawn(worker, generation, now);
    }

    /// It has started a successor, which is not the main process yet.
    pub(super) fn successor(&mut self, of: Id, now: Time) -> Option<Id> {
        let predecessor = self.processes.get(&of)?;
        let (worker, upgrade_signal) = (predecessor.worker, predecessor.upgrade_signal);
        let leaving = |kill_at, killed| State::Leaving {
            since: now,
            kill_at,
            killed,
            told: false,
        };
        let alone = self.staying(worker).count() == 1;
        let state = match &self.stop {
            // Its predecessor was told, and ends it.
            Some(stop) => leaving(stop.deadline, false),
            None if predecessor.leaves() => return None,
            None if alone && predecessor.serves() => State::Starting {
                until: Some(now.saturating_add(self.settings.start_timeout)),
                ready_at: None,
            },
            // Another one starts already.
            None => leaving(None, true),
        };
        let surplus = matches!(state, State::Leaving { killed: true, .. });
        let generation = self.generation_after(of);
        if !surplus && let Some(asked) = self.asked(of) {
            // From here on it is the successor's time that counts.
            (asked.heard, asked.until) = (true, None);
        }
        let id = self.adopt(of, worker, generation, state, now);
        if let Some(process) = self.processes.get_mut(&id) {
            // Until it says so itself.
            process.upgrade_signal = upgrade_signal;
        }
        if surplus {
            self.actions.push(Action::Kill(id));
        }
        Some(id)
    }

    /// The number of one that this one has started: that of the replacement that goes on there.
    fn generation_after(&mut self, of: Id) -> u64 {
        let worker = self.processes.get(&of).map(|process| process.worker);
        match &self.rollout {
            Some(rollout) if Some(rollout.worker) == worker => rollout.generation,
            _ => {
                self.generation += 1;
                self.generation
            }
        }
    }

    fn adopt(&mut self, of: Id, worker: u32, generation: u64, state: State, now: Time) -> Id {
        let id = self.next_id;
        self.next_id += 1;
        let process = Process {
            worker,
            generation,
            spawned: now,
            state,
            of: Some(of),
            upgrade_signal: None,
            stopping: false,
        };
        self.processes.insert(id, process);
        self.actions.push(Action::Adopt { id, generation });
        id
    }

    /// A process that was not known is the main one, as the one that was says, or it itself.
    pub(super) fn new_main(&mut self, of: Id, now: Time) {
        let Some(predecessor) = self.processes.get(&of) else {
            return;
        };
        if self.stop.is_some() {
            if let Some(id) = self.successor(of, now) {
                self.main(id, now);
            }
            return;
        }
        if predecessor.leaves() {
            return;
        }
        let worker = predecessor.worker;
        let generation = self.generation_after(of);
        let state = State::Starting {
            until: Some(now.saturating_add(self.settings.start_timeout)),
            ready_at: None,
        };
        let id = self.adopt(of, worker, generation, state, now);
        self.main(id, now);
        // What was about to take the place that is taken.
        let others: Vec<_> = self.staying(worker).filter(|other| *other != id).collect();
        for other in others {
            match self.processes[&other].state {
                State::Starting { .. } => self.end_at_once(other, now),
                State::Probation { .. } => self.leave(other, Leave::Replaced, now),
                _ => {}
            }
        }
    }

    /// It has never served.
    pub(super) fn end_at_once(&mut self, id: Id, now: Time) {
        self.leaves(id, None, now);
        self.overdue(id);
    }

    /// It is the main process.
    pub(super) fn main(&mut self, id: Id, now: Time) {
        let Some(process) = self.processes.get(&id) else {
            return;
        };
        let (worker, of) = (process.worker, process.of);
        match process.state {
            State::Starting { until: Some(_), .. } => {
                // Also those that it has started in the place of the one that was.
                let mut before = of;
                while let Some(one) = before {
                    self.hands_over(one, now);
                    before = self.processes.get(&one).and_then(|process| process.of);
                }
                self.ready(id, now);
            }
            State::Leaving {
                told: false,
                killed: false,
                ..
            } => match self.stop {
                None => self.comes_back(id, worker, now),
                // One that was told to stop in time has told its successor.
                Some(_) if of.is_some_and(|of| self.has_said_stopping(of)) => {}
                Some(_) => {
                    if let Some(State::Leaving { told, .. }) = self.state(id) {
                        *told = true;
                    }
                    self.actions.push(Action::Tell(id, Leave::Stop));
                }
            },
            _ => {}
        }
    }

    fn has_said_stopping(&self, id: Id) -> bool {
        self.processes
            .get(&id)
            .is_some_and(|process| process.stopping)
    }

    /// It is the main process no more, and leaves by itself.
    pub(super) fn hands_over(&mut self, id: Id, now: Time) {
        if self.asked(id).is_some()
            && let Some(rollout) = &mut self.rollout
        {
            rollout.asked = None;
        }
        if self.stays(id) {
            let after = self.settings.drain_timeout;
            self.leaves(id, after.map(|after| after.saturating_add(GRACE)), now);
        }
    }

    /// Who has started it was told to stop, and knows what is to become of it.
    pub(super) fn left_to_predecessor(&mut self, id: Id, now: Time) {
        self.leaves(id, self.settings.stop_timeout, now);
    }

    /// It is of no use any more, and about to end.
    pub(super) fn set_aside(&mut self, id: Id, now: Time) {
        self.leaves(id, Some(WORD), now);
    }

    fn leaves(&mut self, id: Id, after: Option<Duration>, now: Time) {
        if let Some(state) = self.state(id) {
            *state = State::Leaving {
                since: now,
                kill_at: after.map(|after| now.saturating_add(after)),
                killed: false,
                told: false,
            };
        }
        if let Some(worker) = self.processes.get(&id).map(|process| process.worker) {
            self.bound_leaving(worker, Some(now.saturating_add(GRACE)));
        }
    }

    /// The successor of one that was asked has ended; the other is about to say why.
    pub(super) fn wait_for_reason(&mut self, of: Option<Id>, why: &str, now: Time) -> bool {
        let Some(of) = of.filter(|of| self.stays(*of)) else {
            return false;
        };
        let until = Some(now.saturating_add(WORD));
        match self.asked(of) {
            Some(asked) => {
                (asked.until, asked.why) = (until, Some(why.to_owned()));
                true
            }
            None => false,
        }
    }
}
