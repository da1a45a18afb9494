//! What is said to the predecessor of the connections that it gives.
//!
//! # Invariants
//!
//! 1. Each connection is answered for once: claimed, or refused, wherever it is dropped.
//! 2. Who claims goes on only when the claim is in the channel, or the predecessor has gone.
//! 3. A claim that has been asked for is sent, also if who asked has gone since: the predecessor
//!    does not wait for it in vain.

use std::{
    future::{Future, pending},
    io,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    Stays, fault,
    upgrade::{channel::Channel, frame::Message},
};

/// Connections in one answer.
const BATCH: usize = 256;
/// Connections that are let go of at once, to begin with: what is done with them takes less than a
/// millisecond, which is how much longer a request may wait.
const LOT: usize = 64;
/// After so many lots, which take half a second, they double.
const LOTS: u32 = 100;
/// After an error of the channel that is not its end, and between two lots that are let go.
const PAUSE: Duration = Duration::from_millis(5);

/// The answers of one channel.
pub(crate) struct Answers {
    channel: Arc<Channel>,
    claims: mpsc::UnboundedSender<Claim>,
    /// One for each connection that need not be held any longer; closed when that is so for all.
    let_go: Arc<Semaphore>,
}

struct Claim {
    id: u64,
    sent: oneshot::Sender<()>,
}

/// The answer for one connection. Refuses when it is dropped.
pub(crate) struct Answer {
    id: u64,
    to: Option<Arc<Answers>>,
}

impl Answers {
    pub(crate) fn new(channel: Arc<Channel>) -> Arc<Self> {
        let (claims, queue) = mpsc::unbounded_channel();
        tokio::spawn(send_claims(channel.clone(), queue));
        Arc::new(Self {
            channel,
            claims,
            let_go: Arc::new(Semaphore::new(0)),
        })
    }

    pub(crate) fn of(self: &Arc<Self>, id: u64) -> Answer {
        Answer {
            id,
            to: Some(self.clone()),
        }
    }

    /// Whatever is held is to be claimed, and all that still comes: the oldest first, and some at a
    /// time, because clients are being served meanwhile.
    pub(crate) fn settle(&self) {
        let let_go = self.let_go.clone();
        tokio::spawn(async move {
            // What is left of them is left by who has come to the end of the queue.
            let mut lot = LOT;
            for nth in 1_u32.. {
                if let_go.available_permits() > 0 || let_go.is_closed() {
                    break;
                }
                let_go.add_permits(lot);
                tokio::time::sleep(PAUSE).await;
                // The predecessor waits for an end.
                if nth.is_multiple_of(LOTS) {
                    lot *= 2;
                }
            }
            let_go.close();
        });
    }

    /// Ends when a connection may be held no longer.
    pub(crate) fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let let_go = self.let_go.clone();
        async move {
            if let Ok(permit) = let_go.acquire_owned().await {
                permit.forget();
            }
        }
    }

    /// Says that these are held.
    pub(crate) fn hold(&self, ids: Vec<u64>) {
        self.say(Message::Held { ids });
    }

    /// Refuses these.
    pub(crate) fn refuse(&self, ids: Vec<u64>, why: Stays) {
        if !ids.is_empty() {
            let why = why.code().to_owned();
            self.say(Message::Refused { ids, why });
        }
    }

    fn say(&self, message: Message) {
        if self.channel.try_send(&message).is_ok() {
            return;
        }
        // The channel is full, or its other end has gone.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let channel = self.channel.clone();
            runtime.spawn(async move {
                let _ = channel.send(&message, b"", &[]).await;
            });
        }
    }
}

impl Answer {
    /// Ends when the connection is ours.
    pub(crate) async fn claim(mut self) {
        let Some(to) = self.to.take() else { return };
        let (sent, is_sent) = oneshot::channel();
        let _ = to.claims.send(Claim { id: self.id, sent });
        if is_sent.await.is_err() {
            // The runtime is being shut down, and nobody knows whether it was sent.
            pending::<()>().await;
        }
        fault::comes_to("claimed").await;
    }

    pub(crate) fn refuse(mut self, why: Stays) {
        if let Some(to) = self.to.take() {
            to.refuse(vec![self.id], why);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            to.refuse(vec![self.id], Stays::Refused);
        }
    }
}

/// Sends claims, as many at a time as have come while the last were being sent.
async fn send_claims(channel: Arc<Channel>, mut queue: mpsc::UnboundedReceiver<Claim>) {
    let mut claims = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut claims, BATCH).await > 0 {
        let ids = claims.iter().map(|claim| claim.id).collect();
        let message = Message::Claimed { ids };
        while let Err(err) = channel.send(&message, b"", &[]).await {
            // If the predecessor has gone they are ours anyway. As long as it has not, they are
            // its own until it is told.
            if matches!(
                err.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::NotConnected
            ) {
                break;
            }
            tracing::debug!(%err, "a claim could not be sent, trying again");
            tokio::time::sleep(PAUSE).await;
        }
        for claim in claims.drain(..) {
            let _ = claim.sent.send(());
        }
    }
}
