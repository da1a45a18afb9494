//! Leads actix's server through the phases of a drain.
//!
//! # Invariants
//!
//! 1. The guard is held while actix may accept; it is let go when actix has been told to stop, which
//!    is after the drain was made final.
//! 2. In an upgrade nothing is accepted once the drain has begun: the successor does. Otherwise
//!    nobody else does, and so it is gone on with until the stop.
//! 3. actix is told to stop once, and what it has accepted by then is tracked: its accept thread has
//!    paused, and its workers have looked since. [`SETTLE`] bounds that.
//! 4. What is left at the cut ends because its server is dropped.

use std::{io, os::fd::OwnedFd, pin::pin, sync::Arc, time::Duration};

use actix_web::dev::ServerHandle;
use handover::{Graceful, Guard, Listener, Phase, Phases, Report};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::{acceptor::Acceptor, cut::last_words, server::Shared};

/// For how long a thread of actix's may take to come to what it was asked: one that is held by a handler
/// is not waited for any longer.
const SETTLE: Duration = Duration::from_secs(3);

/// For how long after it was accepted a client is given to say what it wants, where the window ends
/// meanwhile: half of a head would not keep actix from closing its connection.
const FIRST_WORDS: Duration = Duration::from_secs(1);

/// How often to look who has not taken an answer, once idle connections have been closed.
const STUCK: Duration = Duration::from_millis(100);

/// A server of actix's, on its thread, and all that leads it.
pub(super) struct Conductor {
    pub(super) graceful: Graceful,
    pub(super) guard: Option<Guard>,
    /// Until the generation may accept.
    pub(super) listeners: Vec<Listener>,
    /// From then on.
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) shared: Arc<Shared>,
    pub(super) acceptor: Acceptor,
    pub(super) handle: ServerHandle,
    pub(super) made: oneshot::Receiver<()>,
    pub(super) release: watch::Sender<bool>,
    /// Dropped, it ends the server, without a word to its connections.
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) ended: oneshot::Receiver<io::Result<()>>,
}

impl Conductor {
    /// Waits until all applications have been made.
    pub(super) async fn made(&mut self) -> io::Result<()> {
        tokio::select! {
            biased;
            ended = &mut self.ended => Err(early(ended)),
            // An error means that it is about to end.
            Ok(()) = &mut self.made => Ok(()),
        }
    }

    pub(super) async fn conduct(mut self) -> io::Result<Report> {
        if !self.opened().await? {
            return Ok(self.end().await);
        }
        let mut phases = self.graceful.phases();
        loop {
            self.serve(&mut phases).await?;
            let upgrades = !self.graceful.is_stopping();
            if upgrades {
                self.handle.pause().await;
            }
            if self.told(upgrades, &mut phases).await {
                break;
            }
            self.resume().await;
        }
        // The port is closed by actix, and here.
        self.sockets.clear();
        // Sent by the call; it waits for what is waited for below.
        drop(self.handle.stop(true));
        Ok(self.end().await)
    }

    /// Lets actix accept, once the generation may. Returns false if it is not to begin at all.
    async fn opened(&mut self) -> io::Result<bool> {
        let listeners = &mut self.listeners;
        let opened = async {
            for listener in listeners {
                listener.opened().await;
            }
        };
        tokio::select! {
            biased;
            ended = &mut self.ended => return Err(early(ended)),
            () = opened => {}
            () = self.graceful.draining() => return Ok(false),
        }
        for listener in self.listeners.drain(..) {
            // One that had to wait for it listens from here on.
            self.sockets.push(listener.into_fd()?);
        }
        self.release.send_replace(true);
        // While there are few descriptors to look through.
        let _ = timeout(SETTLE, self.acceptor.found()).await;
        Ok(true)
    }

    /// Waits for a drain.
    async fn serve(&mut self, phases: &mut Phases) -> io::Result<()> {
        loop {
            tokio::select! {
                phase = phases.next() => if phase >= Phase::Draining { return Ok(()) },
                ended = &mut self.ended => return Err(early(ended)),
            }
        }
    }

    /// Waits while clients are being told: up to the end of the window, and no longer than there is a
    /// client. Returns false if the drain was taken back; otherwise it is final.
    async fn told(&self, upgrades: bool, phases: &mut Phases) -> bool {
        let mut announced = pin!(self.graceful.announced());
        loop {
            tokio::select! {
                biased;
                announced = &mut announced => {
                    if announced {
                        self.settle(upgrades).await;
                        self.newcomers().await;
                    }
                    return announced;
                }
                () = self.graceful.cutting() => return self.graceful.make_final(),
                // Before it was waited for, it may be.
                () = taken_back(phases) => return false,
                () = self.shared.open.none() => {
                    self.settle(upgrades).await;
                    if self.shared.open.is_none() && (upgrades || !self.has_queued()) {
                        return self.graceful.make_final();
                    }
                    if !upgrades {
                        self.resume().await;
                    }
                }
            }
        }
    }

    /// Stops accepting, and lets what was accepted reach its worker: in the queue of one that is told
    /// to stop it would be dropped.
    async fn settle(&self, upgrades: bool) {
        if !upgrades {
            self.handle.pause().await;
        }
        let patience = self.patience();
        let settled = async {
            // An error: it is late, and the others have to be told.
            let _ = timeout(patience, self.acceptor.paused()).await;
            let Shared { workers, open, .. } = &*self.shared;
            workers.have_looked(open, patience).await;
        };
        tokio::select! {
            () = settled => {}
            () = self.graceful.cutting() => {}
        }
    }

    /// Accepts again.
    async fn resume(&self) {
        self.handle.resume().await;
        let _ = timeout(self.patience(), self.acceptor.resumed()).await;
    }

    /// For how long to wait for a thread of actix's: for half of the time that is left at most.
    fn patience(&self) -> Duration {
        let left = self.graceful.remaining();
        left.map_or(SETTLE, |left| SETTLE.min(left / 2))
    }

    /// Waits for the first requests of those who came last, for half of the time that is left at most.
    async fn newcomers(&self) {
        let left = self.graceful.remaining().unwrap_or_default() / 2;
        // An error: the others have to be answered, too.
        let _ = timeout(left, self.shared.open.no_newcomers(FIRST_WORDS)).await;
    }

    /// Whether the kernel has a connection that nobody has accepted.
    fn has_queued(&self) -> bool {
        let ready = |socket| PollFd::new(socket, PollFlags::IN);
        let mut sockets: Vec<_> = self.sockets.iter().map(ready).collect();
        poll(&mut sockets, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Waits for the end of the drain, and for actix's.
    async fn end(mut self) -> Report {
        self.guard = None;
        let cut = async {
            self.graceful.cutting().await;
            match self.shared.open.has_goodbyes() {
                true => last_words(&self.graceful).await,
                // Time for a 503 to be written, and more of it for the workers to end in.
                false => sleep(self.graceful.policy().cut_grace() / 3).await,
            }
        };
        let stuck = async {
            loop {
                sleep(STUCK).await;
                self.shared.open.none_is_idle();
            }
        };
        tokio::select! {
            _ = self.graceful.drained() => {}
            () = cut => {}
            () = stuck => {}
        }
        self.stop = None;
        // Where it never began: nor does it now.
        drop(self.release);
        let report = self.graceful.drained().await;
        // A handler that does not let go of its thread is not waited for.
        let _ = timeout(self.graceful.policy().cut_grace(), self.ended).await;
        report
    }
}

async fn taken_back(phases: &mut Phases) {
    while phases.next().await != Phase::Running {}
}

fn early(ended: Result<io::Result<()>, oneshot::error::RecvError>) -> io::Error {
    match ended {
        Ok(Err(error)) => error,
        _ => io::Error::other("actix's server has ended, and nobody had told it to"),
    }
}
