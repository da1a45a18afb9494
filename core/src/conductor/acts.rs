//! Does what was decided.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Conductor,
    decide::{Act, View},
    succession::Probation,
};
use crate::{
    Reason,
    error::{Error, Kind},
    systemd::pulse,
    upgrade::{frame::Message, link::Link},
};

impl Conductor {
    /// What this process knows.
    pub(super) fn view(&self) -> View {
        let graceful = &self.shared.graceful;
        let reason = graceful.reason().unwrap_or_default();
        View {
            phase: graceful.phase(),
            is_upgrade: reason.is_upgrade(),
            ready: self.shared.is_ready(),
            attempt: self.attempt.as_ref().map(|attempt| attempt.course.stage()),
            stops: self.stops,
            begun: self.begun,
        }
    }

    /// Does it all, in order. A drain begins for `reason`.
    pub(super) fn perform(&mut self, acts: &[Act], reason: Reason) {
        for act in acts {
            self.perform_one(*act, reason);
        }
    }

    fn perform_one(&mut self, act: Act, reason: Reason) {
        let shared = &self.shared;
        match act {
            Act::Drain => {
                shared.graceful.drain_for(reason);
            }
            Act::Begin => self.begun = true,
            Act::Cut => shared.graceful.cut(),
            Act::TellOfStop => {
                shared.tell_of_stop();
                let (manager, graceful) = (Arc::clone(&shared.manager), shared.graceful.clone());
                tokio::spawn(pulse::report_drain(manager, graceful));
            }
            Act::SayBye => shared.tell_predecessor(&Message::Bye),
            Act::BecomeAlone => shared.become_alone(),
            Act::DropAttempt => self.drop_attempt(),
            Act::StopSuccessorLater => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.stop_successor = true;
                }
            }
            Act::Release => {
                if let Some(link) = &mut self.link {
                    link.release();
                }
            }
            Act::Terminate => self.link.iter().for_each(Link::terminate),
            Act::HandOver => shared.handed_over.store(true, Ordering::Release),
            Act::ShutGates => {
                shared.gate.shut();
                shared.control_gate.shut();
            }
            Act::BeginProbation => {
                self.probation = Probation::begin(&shared.graceful, shared.probation);
                if self.probation.is_none() {
                    self.link.iter().for_each(Link::settle);
                }
            }
            Act::EndProbation => self.probation = None,
            Act::Settle => {
                self.link.iter().for_each(Link::settle);
                if let Some(probation) = &mut self.probation {
                    probation.settles = None;
                }
            }
            Act::TellOfSuccessor => self.tell_manager(),
            Act::BoundDrains => self.bound_drains(),
            Act::TakeService => shared.handed_over.store(false, Ordering::Release),
            Act::ReclaimPidFile => shared.reclaim_pid_file(),
            Act::TellOfUs => shared.manager.alone(),
            Act::OpenGates => {
                shared.gate.open();
                shared.control_gate.open();
            }
            Act::BeginAnew => (self.stops, self.begun, self.closed) = (0, false, false),
            Act::TakeBack => {
                if let Some(link) = self.link.take() {
                    link.take_back();
                }
            }
        }
    }

    /// Ends an attempt that has not come to its commit.
    fn drop_attempt(&mut self) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        // Kills the successor; the runtime reaps it.
        drop(attempt.run);
        let within = attempt.span.entered();
        within.record("outcome", "ended");
        let message = "the upgrade was ended: this process was told to stop";
        tracing::warn!("{message}");
        let err = Error::new(Kind::Draining, message);
        drop(self.shared.upgrade_failed(&err));
        self.shared.journal.failed(&err);
        drop(within);
        if let Some(reply) = attempt.reply {
            let _ = reply.send(Err(err));
        }
        attempt
            .done
            .into_iter()
            .chain(self.waiting.drain(..))
            .for_each(|done| {
                let _ = done.send(());
            });
    }
}
