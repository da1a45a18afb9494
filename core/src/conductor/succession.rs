//! What follows once a successor serves: its probation, and what to do should it die.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::Conductor;
use crate::{
    Graceful, Guard, Reason,
    error::{Error, Kind},
    systemd,
    upgrade::{
        Successor,
        frame::Message,
        link::{Ended, Link},
    },
};

/// Ends with the successor, if there is one.
pub(super) async fn ended(link: &mut Option<Link>) -> Ended {
    match link {
        Some(link) => link.ended().await,
        None => std::future::pending().await,
    }
}

/// Ends with the probation, if there is one.
pub(super) async fn probation_over(probation: &Option<(Guard, Instant)>, graceful: &Graceful) {
    match probation {
        Some((_, until)) => tokio::select! {
            () = tokio::time::sleep_until(*until) => {}
            () = graceful.cutting() => {}
        },
        None => std::future::pending().await,
    }
}

impl Conductor {
    pub(super) fn succeeded(&mut self, mut link: Link, stop: bool) -> Successor {
        let successor = link.successor;
        let shared = &self.shared;
        shared.handed_over.store(true, Ordering::Release);
        shared.gate.shut();
        shared.control_gate.shut();
        let (pid, generation) = (successor.pid(), successor.generation());
        shared.journal.serving(pid, generation);
        tracing::info!(
            successor = successor.pid(),
            generation = successor.generation(),
            "successor serves"
        );
        // What becomes of us is the successor's concern now.
        shared.tell_predecessor(&Message::Bye);
        if stop {
            link.terminate();
            link.release();
        }
        if shared.probation > Duration::ZERO && !stop {
            let until = Instant::now() + shared.probation;
            // Not a holder: should the deadline come first, nothing was cut that anybody waits for.
            let guard = shared.graceful.guard();
            self.probation = guard.map(|guard| (guard, until));
        }
        self.link = Some(link);
        self.tell_manager(successor);
        let shared = &self.shared;
        shared.graceful.drain_for(Reason::Upgrade {
            successor: successor.pid(),
        });
        successor
    }

    /// Tells the service manager who is the main process, and is there until it knows.
    fn tell_manager(&self, successor: Successor) {
        if !systemd::is_listening() {
            return;
        }
        let guard = self.shared.graceful.guard();
        tokio::task::spawn_blocking(move || {
            systemd::handed_over(successor.pid(), successor.generation());
            drop(guard);
        });
    }

    pub(super) fn successor_ended(&mut self, ended: &Ended) {
        let Some(link) = self.link.take() else { return };
        let (successor, shared) = (link.successor.pid(), &self.shared);
        let status = match ended {
            Ended::Released => {
                tracing::info!(successor, "successor has ended, as it should");
                return link.take_back();
            }
            Ended::Died(Ok(status)) => status.to_string(),
            Ended::Died(Err(err)) => err.to_string(),
        };
        shared.handed_over.store(false, Ordering::Release);
        if shared.graceful.resume() {
            tracing::error!(successor, status, "the successor died, serving again");
            let message = format!("the successor (pid {successor}) died after it served, {status}");
            drop(shared.upgrade_failed(&Error::new(Kind::Failed, &*message)));
            shared.reclaim_pid_file();
            systemd::alone(shared.number);
            shared.gate.open();
            shared.control_gate.open();
            shared.journal.resumed(&message);
            (self.stops, self.begun, self.closed) = (0, false, false);
        } else {
            tracing::error!(
                successor,
                status,
                "the successor died, too late to serve again"
            );
            let message = format!(
                "the successor (pid {successor}) died, {status}, too late for this process to \
                 serve again: nobody does"
            );
            shared.journal.lost(message);
            // Not before the drain is taken back: without the holder it might be over.
            self.probation = None;
        }
        // Last, so that a connection that comes back is served on as if nothing had been.
        link.take_back();
    }
}
