//! What follows once a successor serves: its probation, and what to do should it die.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::Conductor;
use crate::{
    Graceful, Guard, Phase, Reason,
    error::{Error, Kind},
    upgrade::{
        Successor,
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
    settles: Option<Instant>,
    until: Instant,
}

impl Probation {
    fn begin(graceful: &Graceful, time: Duration) -> Option<Self> {
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

/// Ends when a later generation cuts this one, or when there is none any more that could.
pub(super) async fn leashed(leash: &Option<Channel>) -> bool {
    let Some(leash) = leash else {
        return std::future::pending().await;
    };
    loop {
        match leash.recv().await {
            Ok(Some(received)) if received.message == Decoded::Known(Message::Cut) => return true,
            Ok(Some(_)) => {}
            Err(err) if err.kind() == std::io::ErrorKind::InvalidData => {}
            Ok(None) | Err(_) => return false,
        }
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
            self.probation = Probation::begin(&shared.graceful, shared.probation);
        }
        if self.probation.is_none() {
            link.settle();
        }
        self.link = Some(link);
        self.tell_manager(successor);
        self.bound_drains();
        let shared = &self.shared;
        shared.graceful.drain_for(Reason::Upgrade {
            successor: successor.pid(),
        });
        successor
    }

    /// Cuts the oldest generations, if with this one more than allowed drain.
    fn bound_drains(&self) {
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
    fn tell_manager(&self, successor: Successor) {
        if !self.shared.manager.is_listening() {
            return;
        }
        let guard = self.shared.graceful.guard();
        let shared = Arc::clone(&self.shared);
        let channel = self.link.as_ref().and_then(Link::channel);
        tokio::spawn(async move {
            // A predecessor that drains may be about to make us that.
            shared.manager.until_main().await;
            let manager = Arc::clone(&shared.manager);
            let (pid, generation) = (successor.pid(), successor.generation());
            let told = tokio::task::spawn_blocking(move || manager.handed_over(pid, generation));
            let _ = told.await;
            let stored = shared.registry().ledger.names();
            if let Some(channel) = channel
                && let Err(err) = channel.send(&Message::Main { stored }, b"", &[]).await
            {
                tracing::debug!(successor = pid, %err, "not told that it is the main process");
            }
            drop(guard);
        });
    }

    pub(super) fn probation_due(&mut self) {
        if let Some(link) = &self.link {
            link.settle();
        }
        let is_cut = self.shared.graceful.phase() >= Phase::Cutting;
        if let Some(probation) = &mut self.probation {
            probation.settles = None;
            if is_cut || probation.until <= Instant::now() {
                self.probation = None;
            }
        }
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
            shared.manager.alone();
            shared.gate.open();
            shared.control_gate.open();
            shared.journal.resumed(&message);
            self.leash = None;
            // Not earlier: it may be all that held the drain open.
            self.probation = None;
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
