//! Asks a service again and again.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use handover::{
    Status,
    control::{Event, Request},
};
use handover_supervisor::{Client, Error};

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(250);
/// Answering costs the service something for each connection: at most one part in so many of the
/// time.
const SHARE: u32 = 50;

/// What has come of asking once.
pub(super) enum Update {
    /// Where it stands.
    Status(Box<Status>),
    /// Something else: it refuses.
    Other(Event),
    /// It does not answer now, and may do so later.
    NoAnswer(Error),
    /// Nobody listens there. The last one.
    Gone(Error),
}

/// Asks from now on, each time within this time, until there is nobody to ask, or to tell.
pub(super) fn start(client: Client, timeout: Duration) -> Receiver<Update> {
    // No more than one ahead: who does not look wants to see the newest.
    let (send, updates) = sync_channel(1);
    thread::spawn(move || {
        loop {
            let began = Instant::now();
            let update = ask(&client, began + timeout);
            let over = matches!(update, Update::Gone(_));
            let pause = EVERY.max(began.elapsed() * SHARE);
            if send.send(update).is_err() || over {
                return;
            }
            thread::sleep(pause);
        }
    });
    updates
}

fn ask(client: &Client, deadline: Instant) -> Update {
    let answer = client
        .ask(&Request::Status, deadline)
        .and_then(|mut events| events.next().transpose());
    match answer {
        Ok(Some(Event::Status { status, .. })) => Update::Status(status),
        Ok(event) => Update::Other(event.unwrap_or(Event::Unknown)),
        Err(err) if err.is_unreachable() => Update::Gone(err),
        Err(err) => Update::NoAnswer(err),
    }
}
