//! Connections that a predecessor gives.
//!
//! # Invariants
//!
//! 1. What arrives is refused when it is dropped unclaimed, wherever that happens: in a queue that
//!    nobody reads any more, on an error, at the end of the runtime. So the predecessor always
//!    learns, and until the claim the connection is its own.
//! 2. The claim is in the channel before the connection is handed to who reads it. After the death
//!    of either process the channel says whose it is.
//! 3. A listener that nobody adopts from refuses after a moment, so that a connection is not kept
//!    from being served by a program that does not know of moving. One that is adopted from refuses
//!    at once what its program has not declared: nobody is given a connection that speaks something
//!    else than is expected.
//! 4. What is held is watched and not read: only HTTP, since another protocol may have to write when
//!    nothing has come. It is claimed when something has come, when the
//!    predecessor asks for it, and when the predecessor has gone.

use std::{
    collections::HashMap,
    future::Future as _,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{
    answers::{Answer, Answers},
    arrivals::{Arrivals, Taker},
};
use crate::{
    Address, Connection, Stays, Stream,
    accept::{Arrival, Parcel, Protocol},
    upgrade::frame::Moved,
};

/// For how long what arrives waits for a listener that nobody serves yet: a program makes its
/// server right before or after it says that it is ready.
const UNSERVED: Duration = Duration::from_secs(1);

/// The listeners of a generation that may adopt, by name.
#[derive(Default)]
pub(crate) struct Adopters {
    by_name: Mutex<HashMap<String, Arc<Arrivals<Arrived>>>>,
    changed: Arc<Notify>,
}

/// A listener's end.
pub(crate) struct Adopting {
    arrivals: Arc<Arrivals<Arrived>>,
    // Told when it is served, and when it is not any more.
    changed: Arc<Notify>,
}

/// A connection that has arrived and is still the predecessor's.
struct Arrived {
    record: Moved,
    unread: Vec<u8>,
    state: Vec<u8>,
    fd: OwnedFd,
    answer: Answer,
    /// Where it is held: who knows for how long.
    held: Option<Arc<Answers>>,
}

impl Adopters {
    /// A place for the connections of the listener of this name.
    pub(crate) fn register(&self, name: &str) -> Adopting {
        let arrivals: Arc<Arrivals<_>> = Arc::default();
        self.lock().insert(name.to_owned(), arrivals.clone());
        Adopting {
            arrivals,
            changed: self.changed.clone(),
        }
    }

    /// Takes a message apart, and gives each connection to its listener. Where the predecessor lets
    /// them wait, those on which nothing has come are held.
    pub(crate) fn receive(
        &self,
        answers: &Arc<Answers>,
        mut records: Vec<Moved>,
        mut payload: &[u8],
        fds: Vec<OwnedFd>,
        lazy: bool,
    ) {
        // Fewer descriptors than records: this process has no more room for them. Those that have
        // come are the first.
        let without = records.split_off(fds.len().min(records.len()));
        if !without.is_empty() {
            tracing::warn!(
                connections = without.len(),
                "this process has no descriptors left for connections, its predecessor keeps them"
            );
            let ids = without.iter().map(|record| record.id).collect();
            answers.refuse(ids, Stays::RefusedDescriptors);
        }
        let waits = |record: &Moved| lazy && record.unread == 0 && record.protocol.is_empty();
        let held = records.iter().filter(|record| waits(record));
        let held: Vec<u64> = held.map(|record| record.id).collect();
        if !held.is_empty() {
            // Before any is claimed or refused.
            answers.hold(held);
        }
        for (record, fd) in records.into_iter().zip(fds) {
            let answer = answers.of(record.id);
            let Some((unread, state, rest)) = split(&record, payload) else {
                tracing::warn!(
                    peer = record.peer,
                    "a connection did not arrive whole, its predecessor keeps it"
                );
                continue;
            };
            payload = rest;
            let arrived = Arrived {
                unread: unread.to_vec(),
                state: state.to_vec(),
                held: waits(&record).then(|| answers.clone()),
                record,
                fd,
                answer,
            };
            self.deliver(arrived);
        }
    }

    fn deliver(&self, arrived: Arrived) {
        let Some(arrivals) = self.lock().get(&arrived.record.listener).cloned() else {
            arrived.answer.refuse(Stays::RefusedListener);
            return;
        };
        if arrivals.taker() != Taker::Nobody {
            // An error is a listener that has been dropped.
            let _ = arrivals.push(arrived);
            return;
        }
        let changed = self.changed.clone();
        tokio::spawn(async move {
            match timeout(UNSERVED, is_served(&arrivals, &changed)).await {
                Ok(true) => drop(arrivals.push(arrived)),
                _ => arrived.answer.refuse(Stays::RefusedUnserved),
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Arrivals<Arrived>>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when somebody serves the listener, or when it has been dropped, and then with false.
async fn is_served<T>(arrivals: &Arrivals<T>, changed: &Notify) -> bool {
    loop {
        // Before it is looked at, so that no change is missed.
        let changes = changed.notified();
        match arrivals.taker() {
            Taker::Nobody => changes.await,
            Taker::Served => return true,
            Taker::Gone => return false,
        }
    }
}

impl Adopting {
    pub(crate) fn adopts(&self, protocols: &[Protocol]) {
        self.arrivals.adopt(protocols);
        self.changed.notify_waiters();
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Arrival<Stream>> {
        loop {
            let arrived = ready!(self.arrivals.poll(cx));
            let (name, version) = (&arrived.record.protocol, arrived.record.version);
            let Some(protocol) = self.arrivals.adopts(name, version) else {
                let peer = &arrived.record.peer;
                tracing::debug!(%peer, name, version, "refused: nobody here adopts this protocol");
                arrived.answer.refuse(Stays::RefusedProtocol);
                continue;
            };
            match open(arrived, protocol.written_in(version)) {
                Ok(arrival) => return Poll::Ready(arrival),
                // Its answer has been dropped, and so it goes back.
                Err(err) => tracing::warn!(%err, "a connection cannot be adopted"),
            }
        }
    }
}

impl Drop for Adopting {
    fn drop(&mut self) {
        self.arrivals.close();
        self.changed.notify_waiters();
    }
}

/// What was read ahead of a connection, its state, and the rest of the payload.
fn split<'a>(record: &Moved, payload: &'a [u8]) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
    let (unread, rest) = payload.split_at_checked(record.unread)?;
    let (state, rest) = rest.split_at_checked(record.state)?;
    Some((unread, state, rest))
}

fn open(arrived: Arrived, protocol: Protocol) -> Result<Arrival<Stream>, std::io::Error> {
    let Arrived {
        record,
        unread,
        state,
        fd,
        answer,
        held,
    } = arrived;
    let peer: Address = record.peer.parse().map_err(std::io::Error::other)?;
    let age = Duration::from_millis(record.age_ms);
    let connection = Connection::adopted(peer, age, record.requests);
    if let Some(said) = record.proxied {
        connection.set_proxied(Arc::from(said));
    }
    if let Some(trace) = record.trace {
        connection.set_trace_context(&trace);
    }
    let io = Stream::from_fd(fd, connection.socket_peer())?;
    let parcel = Parcel::new(io, unread, connection).speaking(protocol, state);
    let arrival = Arrival::new(parcel, answer.claim());
    let Some(held) = held else { return Ok(arrival) };
    let mut settled = Box::pin(held.settled());
    Ok(
        arrival.due_when(move |io: &Stream, cx| match io.poll_readable(cx) {
            Poll::Pending => settled.as_mut().poll(cx),
            ready => ready,
        }),
    )
}
