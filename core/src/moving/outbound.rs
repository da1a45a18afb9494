//! Connections that are given to the successor.
//!
//! # Invariants
//!
//! 1. A connection that was sent stays in `sent` or `held`, with our duplicate, until it is answered
//!    for: claimed, refused, or given back because the channel has ended. Nobody reads it meanwhile.
//! 2. Each entry is answered exactly once: whoever removes it, under the lock, answers.
//! 3. The route closes only after every claim that the successor had sent was taken from the
//!    channel. So what is given back at the end was never claimed.
//! 4. At most [`WINDOW`] connections are in `sent`: that bounds the memory of the channel, and what
//!    waits when the successor is slow.
//! 5. At most [`DEPARTURES`] idle connections are before `held`: one whose client is about to ask
//!    waits behind no more than these, however many there are.
//! 6. What the successor holds, and has said so, has no time limit until it is asked to settle.
//!    Nothing is offered to be held after that.

use std::{
    collections::BTreeMap,
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Graceful, Stays,
    accept::{Departure, Departures, MAX_STATE, MAX_UNREAD, Proxied},
    fault,
    generation::shared::lock,
    upgrade::{
        channel::Channel,
        frame::{self, Message, Moved},
    },
};

/// Connections without an answer.
const WINDOW: usize = 1024;
/// Idle connections that are on their way at a time: so many are at most in front of one whose client
/// is about to ask. Two messages, so that one is under way while the other is answered.
const DEPARTURES: usize = 2 * BATCH;
/// Connections in one message. The kernel passes at most 253 descriptors in one.
const BATCH: usize = 64;
/// For how long a living successor may leave a connection without an answer, by default. Nobody
/// serves it meanwhile, and it cannot be taken back while the successor might still claim it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// For how long to try again where the kernel has too many descriptors under way. Much less than
/// [`PATIENCE`]: the successor would be killed for what it has not even been sent.
const PATIENCE_WITH_KERNEL: Duration = Duration::from_millis(500);

/// What is to be given, without the type of its connection.
pub(crate) struct Given {
    pub(crate) fd: OwnedFd,
    pub(crate) unread: Vec<u8>,
    pub(crate) state: Vec<u8>,
    pub(crate) record: Moved,
    /// Until the successor has it.
    pub(crate) departure: Option<Departure>,
}

// So that one message can carry any connection.
const _: () = assert!(MAX_UNREAD + MAX_STATE <= frame::PAYLOAD);

impl Given {
    fn payload(&self) -> usize {
        self.unread.len() + self.state.len()
    }

    /// What a header has to say of it beside what it says of any.
    fn said(&self) -> usize {
        let proxied = self.record.proxied.as_deref();
        // With what JSON escapes.
        let trace = self.record.trace.as_deref();
        proxied.map_or(0, Proxied::weight) + trace.map_or(0, |trace| 16 + 6 * trace.len())
    }
}

/// The way to the successor: closed, then open while there is one that serves.
#[derive(Clone)]
pub(crate) struct Route {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    window: Arc<Semaphore>,
    departures: Departures,
    patience: Duration,
    /// A successor may hold what nothing has come on.
    lazy: bool,
    graceful: Graceful,
    changed: Notify,
}

#[derive(Default)]
struct State {
    open: Option<mpsc::UnboundedSender<Item>>,
    // The oldest first: numbers and times grow together.
    sent: BTreeMap<u64, Sent>,
    held: BTreeMap<u64, Sent>,
    next: u64,
    offers_lazily: bool,
    has_offered_lazily: bool,
    /// Since when the successor has been asked to claim what it holds.
    settling: Option<Instant>,
}

/// A connection that comes back, and why.
pub(crate) type Back = (Given, Stays);

type Reply = oneshot::Sender<Result<(), Back>>;

#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are connections, and none stays here for long"
)]
enum Item {
    Connection(Given, Reply),
    Settle,
}

struct Sent {
    given: Given,
    reply: Reply,
    since: Instant,
    /// Until it is held.
    permit: Option<OwnedSemaphorePermit>,
}

impl Route {
    pub(crate) fn new(graceful: Graceful, patience: Duration, lazy: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                window: Arc::new(Semaphore::new(WINDOW)),
                departures: Departures::limited(DEPARTURES),
                patience,
                lazy,
                graceful,
                changed: Notify::new(),
            }),
        }
    }

    pub(crate) fn graceful(&self) -> &Graceful {
        &self.shared.graceful
    }

    pub(crate) fn departures(&self) -> Departures {
        self.shared.departures.clone()
    }

    pub(crate) fn is_open(&self) -> bool {
        lock(&self.shared.state).open.is_some()
    }

    /// Gives a connection; comes back with it if it is the caller's again.
    pub(crate) async fn give(&self, given: Given) -> Result<(), Back> {
        if given.unread.len() > MAX_UNREAD {
            return Err((given, Stays::Unread));
        }
        if given.state.len() > MAX_STATE {
            return Err((given, Stays::State));
        }
        let (reply, answer) = oneshot::channel();
        {
            let state = lock(&self.shared.state);
            let Some(queue) = &state.open else {
                return Err((given, Stays::NoTaker));
            };
            if let Err(closed) = queue.send(Item::Connection(given, reply))
                && let Item::Connection(given, _) = closed.0
            {
                return Err((given, Stays::NoTaker));
            }
        }
        match answer.await {
            Ok(answer) => answer,
            // Every entry is answered; only a runtime that is shut down drops one.
            Err(_) => Ok(()),
        }
    }

    /// A successor serves: from here on connections can be given to it.
    pub(crate) fn open(&self, channel: Arc<Channel>) {
        let (queue, given) = mpsc::unbounded_channel();
        {
            let mut state = lock(&self.shared.state);
            state.open = Some(queue);
            state.offers_lazily = self.shared.lazy;
            state.has_offered_lazily = false;
            state.settling = None;
        }
        tokio::spawn(send_all(self.shared.clone(), channel, given));
    }

    /// Asks the successor to claim what it holds, and lets it hold no more.
    pub(crate) fn settle(&self) {
        let mut state = lock(&self.shared.state);
        state.offers_lazily = false;
        if state.settling.is_none() && state.has_offered_lazily {
            state.settling = Some(Instant::now());
            // Behind all that has been offered.
            if let Some(queue) = &state.open {
                let _ = queue.send(Item::Settle);
            }
        }
        self.shared.changed.notify_one();
    }

    /// The successor has gone, and all that it sent was taken: what it has not claimed is ours.
    pub(crate) fn close(&self) {
        let sent = {
            let mut state = lock(&self.shared.state);
            // The sender's end goes, so that the task ends; it answers what is in its hands.
            state.open = None;
            let mut sent = std::mem::take(&mut state.sent);
            sent.append(&mut state.held);
            sent
        };
        for sent in sent.into_values() {
            give_back(sent.given, sent.reply, Stays::NoTaker);
        }
    }

    /// The successor has claimed these.
    pub(crate) fn claimed(&self, ids: &[u64]) {
        for sent in self.answered(ids) {
            self.shared.graceful.count_moved();
            // The successor has it; ours is closed, and nothing is shut down.
            drop(sent.given);
            let _ = sent.reply.send(Ok(()));
        }
    }

    /// The successor does not want these.
    pub(crate) fn refused(&self, ids: &[u64], why: &str) {
        for sent in self.answered(ids) {
            give_back(sent.given, sent.reply, Stays::refused(why));
        }
    }

    /// The successor holds these: it has them, and they are ours.
    pub(crate) fn held(&self, ids: &[u64]) {
        let mut state = lock(&self.shared.state);
        for id in ids {
            if let Some(mut sent) = state.sent.remove(id) {
                sent.permit = None;
                sent.given.departure = None;
                state.held.insert(*id, sent);
            }
        }
        self.shared.changed.notify_one();
    }

    fn answered(&self, ids: &[u64]) -> Vec<Sent> {
        let mut state = lock(&self.shared.state);
        let answered = ids.iter().filter_map(|id| state.remove(*id)).collect();
        self.shared.changed.notify_one();
        answered
    }

    /// Whether a connection has waited too long for its answer.
    pub(crate) fn has_stalled(&self) -> bool {
        self.time_limit().is_some_and(|at| at <= Instant::now())
    }

    /// When the oldest connection without an answer will have waited too long.
    fn time_limit(&self) -> Option<Instant> {
        let state = lock(&self.shared.state);
        let sent = state.sent.first_key_value().map(|(_, oldest)| oldest.since);
        let held = state.settling.filter(|_| !state.held.is_empty());
        let oldest = [sent, held].into_iter().flatten().min()?;
        Some(oldest + self.shared.patience)
    }

    /// Ends when a connection has waited too long for its answer. Cancel safe.
    pub(crate) async fn stalled(&self) {
        loop {
            match self.time_limit() {
                Some(until) if until <= Instant::now() => return,
                Some(until) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = self.shared.changed.notified() => {}
                },
                None => self.shared.changed.notified().await,
            }
        }
    }
}

impl State {
    fn remove(&mut self, id: u64) -> Option<Sent> {
        self.sent.remove(&id).or_else(|| self.held.remove(&id))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

fn give_back(given: Given, reply: Reply, why: Stays) {
    // Nobody waits any more if the connection was cut meanwhile: then it is closed here.
    let _ = reply.send(Err((given, why)));
}

/// Sends what is given, in batches, until the route is closed.
async fn send_all(
    shared: Arc<Shared>,
    channel: Arc<Channel>,
    mut items: mpsc::UnboundedReceiver<Item>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let (mut payload, mut said) = (0, 0);
    let mut carried = None;
    loop {
        let item = match carried.take() {
            Some(item) => Some(item),
            None if batch.is_empty() => items.recv().await,
            None => items.try_recv().ok(),
        };
        match item {
            Some(Item::Connection(given, reply))
                if batch.is_empty()
                    || payload + given.payload() <= frame::PAYLOAD
                        && said + given.said() <= frame::SAID =>
            {
                payload += given.payload();
                said += given.said();
                batch.push((given, reply));
                if batch.len() < BATCH {
                    continue;
                }
            }
            Some(Item::Settle) if batch.is_empty() => {
                // An error is the end of the channel, which is seen by who reads it.
                let _ = channel.send(&Message::Settle, b"", &[]).await;
                continue;
            }
            None if batch.is_empty() => return,
            other => carried = other,
        }
        send(&shared, &channel, &mut batch).await;
        (payload, said) = (0, 0);
    }
}

async fn send(shared: &Shared, channel: &Channel, batch: &mut Vec<(Given, Reply)>) {
    let mut permits = Vec::with_capacity(batch.len());
    while permits.len() < batch.len() {
        // The semaphore is never closed.
        permits.extend(shared.window.clone().acquire_owned().await.ok());
    }
    let mut connections = Vec::with_capacity(batch.len());
    let mut payload = Vec::new();
    let mut fds = Vec::with_capacity(batch.len());
    let lazy;
    {
        let mut state = lock(&shared.state);
        if state.open.is_none() {
            drop(state);
            for (given, reply) in batch.drain(..) {
                give_back(given, reply, Stays::NoTaker);
            }
            return;
        }
        lazy = state.offers_lazily;
        state.has_offered_lazily |= lazy;
        let since = Instant::now();
        for ((mut given, reply), permit) in batch.drain(..).zip(permits) {
            state.next += 1;
            let id = state.next;
            given.record.id = id;
            given.record.unread = given.unread.len();
            given.record.state = given.state.len();
            // One more duplicate, because the entry may be answered for while this is being sent.
            match given.fd.try_clone() {
                Ok(fd) => fds.push(fd),
                Err(_) => {
                    give_back(given, reply, Stays::Failed);
                    continue;
                }
            }
            payload.extend_from_slice(&given.unread);
            payload.extend_from_slice(&given.state);
            connections.push(given.record.clone());
            let sent = Sent {
                given,
                reply,
                since,
                permit: Some(permit),
            };
            state.sent.insert(id, sent);
        }
    }
    shared.changed.notify_one();
    if connections.is_empty() {
        return;
    }
    let ids: Vec<u64> = connections.iter().map(|moved| moved.id).collect();
    let message = Message::Connections { connections, lazy };
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let until = Instant::now() + PATIENCE_WITH_KERNEL;
    let sent = loop {
        match channel.send(&message, &payload, &borrowed).await {
            // Too many descriptors of this user are under way in the kernel; it takes them out as
            // the successor reads. If it is not the successor's doing, these stay here.
            Err(err)
                if err.raw_os_error() == Some(TOO_MANY_REFERENCES) && Instant::now() < until =>
            {
                sleep(Duration::from_millis(5)).await;
                if lock(&shared.state).open.is_none() {
                    break Err(err);
                }
            }
            sent => break sent,
        }
    };
    fault::comes_to("connections-sent").await;
    if let Err(err) = sent {
        // What was not sent was not claimed. The end of the channel is seen by who reads it.
        tracing::debug!(%err, "connections could not be sent to the successor");
        let route: Vec<Sent> = {
            let mut state = lock(&shared.state);
            ids.iter().filter_map(|id| state.remove(*id)).collect()
        };
        for sent in route {
            give_back(sent.given, sent.reply, Stays::Failed);
        }
    }
}

/// `ETOOMANYREFS`.
const TOO_MANY_REFERENCES: i32 = rustix::io::Errno::TOOMANYREFS.raw_os_error();
