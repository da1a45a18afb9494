//! What follows once a successor serves: its probation, and what to do should it die.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Conductor, decide};
use crate::{
    Graceful, Guard, Phase, Reason,
    error::{Error, Kind},
    upgrade::{
        Successor,
        aside::in_any_case,
        channel::Channel,
        frame::{Decoded, Message},
        link::{Ended, Link},
    },
};

/// For how long before the deadline a successor may claim what it holds.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// Ends with the successor, if there is one.
pub(super) async fn ended(link: &mut Option<Link>) -> Ended {
    match link {
        Some(link) => link.ended().await,
        None => std::future::pending().await,
    }
}

/// Keeps this process behind its successor.
pub(super) struct Probation {
    // Not a holder: should the deadline come first, nothing was cut that anybody waits for.
    _guard: Guard,
    /// When the successor is to claim what it only holds, unless that was before.
    pub(super) settles: Option<Instant>,
    until: Instant,
}

impl Probation {
    pub(super) fn begin(graceful: &Graceful, time: Duration) -> Option<Self> {
        if time.is_zero() {
            return None;
        }
        let guard = graceful.guard()?;
        let now = Instant::now();
        // Early enough for it to be done when the drain's deadline comes.
        let deadline = graceful.policy().deadline(true);
        let before = deadline - (deadline / 10).min(SETTLES_WITHIN);
        Some(Self {
            _guard: guard,
            settles: Some(now + time.min(before)),
            until: now + time,
        })
    }
}

/// Ends when something of the probation, if there is one, is due.
pub(super) async fn probation_due(probation: &Option<Probation>, graceful: &Graceful) {
    match probation {
        Some(Probation { settles, until, .. }) => tokio::select! {
            () = tokio::time::sleep_until(settles.unwrap_or(*until)) => {}
            () = graceful.cutting() => {}
        },
        None => std::future::pending().await,
    }
}

/// What a later generation than the successor has to say.
pub(super) enum Leashed {
    Cut,
    /// It serves, and the one between has died.
    Superseded(Successor),
    /// There is none any more that could say something.
    Gone,
}

/// Ends when a later generation has something to say, or when there is none any more that could.
/// Cancel safe.
pub(super) async fn leashed(leash: &Option<Channel>) -> Leashed {
    let Some(leash) = leash else {
        return std::future::pending().await;
    };
    loop {
        match leash.recv().await {
            Ok(Some(received)) => match received.message {
                Decoded::Known(Message::Cut) => return Leashed::Cut,
                Decoded::Known(Message::Superseded { pid, generation }) => {
                    return Leashed::Superseded(Successor::new(pid, generation));
                }
                _ => {}
            },
            Err(err) if err.kind() == std::io::ErrorKind::InvalidData => {}
            Ok(None) | Err(_) => return Leashed::Gone,
        }
    }
}

impl Conductor {
    pub(super) fn succeeded(&mut self, link: Link, stop: bool) -> Successor {
        let successor = link.successor;
        let (pid, generation) = (successor.pid(), successor.generation());
        self.shared.journal.serving(pid, generation);
        tracing::info!(successor = pid, generation, "successor serves");
        self.link = Some(link);
        self.perform(&decide::succeeded(stop), Reason::Upgrade { successor: pid });
        successor
    }

    /// Cuts the oldest generations, if with this one more than allowed drain.
    pub(super) fn bound_drains(&self) {
        let most = self.shared.max_draining;
        for older in self.shared.older.keep(most.saturating_sub(1)) {
            let (pid, generation) = (older.pid, older.generation);
            tracing::warn!(
                pid,
                generation,
                most,
                "too many generations drain, cutting the oldest"
            );
        }
    }

    /// Tells the service manager who is the main process, and is there until it knows.
    pub(super) fn tell_manager(&self) {
        let (successor, channel) = match (&self.link, self.newer) {
            (_, Some(newer)) => (newer, None),
            (Some(link), None) => (link.successor, link.channel()),
            (None, None) => return,
        };
        if !self.shared.manager.is_listening() {
            return;
        }
        let guard = self.shared.graceful.guard();
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            // A predecessor that drains may be about to make us that.
            shared.manager.until_main().await;
            let manager = Arc::clone(&shared.manager);
            let (pid, generation) = (successor.pid(), successor.generation());
            // Untold, the manager would take our end for the service's.
            in_any_case(move || manager.handed_over(pid, generation)).await;
            let stored = shared.registry().ledger.names();
            if let Some(channel) = channel
                && let Err(err) = channel.send(&Message::Main { stored }, b"", &[]).await
            {
                tracing::debug!(successor = pid, %err, "not told that it is the main process");
            }
            drop(guard);
        });
    }

    pub(super) fn leashed(&mut self, said: &Leashed) {
        match said {
            Leashed::Gone => {
                self.leash = None;
                self.perform(&decide::unleashed(self.view()), Reason::default());
            }
            Leashed::Cut => {
                tracing::warn!("cutting: a later generation asks for it");
                self.shared.graceful.cut();
            }
            Leashed::Superseded(newer) => {
                let (successor, generation) = (newer.pid(), newer.generation());
                tracing::warn!(
                    successor,
                    generation,
                    "the successor died, and the one after it serves"
                );
                self.newer = Some(*newer);
                let acts = decide::superseded(self.view());
                self.perform(&acts, Reason::Upgrade { successor });
            }
        }
    }

    pub(super) fn probation_due(&mut self) {
        let is_cut = self.shared.graceful.phase() >= Phase::Cutting;
        let over = |probation: &Probation| is_cut || probation.until <= Instant::now();
        let acts = decide::probation_due(self.probation.as_ref().is_some_and(over));
        self.perform(&acts, Reason::default());
    }

    pub(super) fn successor_ended(&mut self, ended: &Ended) {
        let Some(link) = &self.link else { return };
        let successor = link.successor.pid();
        let status = match ended {
            Ended::Released => {
                tracing::info!(successor, "successor has ended, as it should");
                return self.perform(&decide::successor_left(), Reason::default());
            }
            Ended::Died(Ok(status)) => status.to_string(),
            Ended::Died(Err(err)) => err.to_string(),
        };
        self.perform(&decide::successor_died(), Reason::default());
        let shared = &self.shared;
        let resumed = shared.graceful.resume();
        if resumed {
            tracing::error!(successor, status, "the successor died, serving again");
            let message = format!("the successor (pid {successor}) died after it served, {status}");
            drop(shared.upgrade_failed(&Error::new(Kind::Failed, &*message)));
            shared.journal.resumed(&message);
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
        }
        self.perform(&decide::resumed(resumed), Reason::default());
    }
}
