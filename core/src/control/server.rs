//! Answers at the control socket.
//!
//! Only the generation that serves accepts: a successor from its commit on, and its predecessor no
//! more once it has handed over, so that who connects reaches the newest. What it has accepted it
//! answers to the end.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::ready,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use super::{Event, Refusal, Request, caller::Caller};
use crate::{conductor, generation::shared::Shared, sockets::gate::Pass, status::Status};

/// How many are answered at a time.
const CALLERS: usize = 32;
/// After an error of accept, most of which last.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until the generation has ended.
pub(crate) async fn serve(
    listener: UnixListener,
    mut pass: Pass,
    shared: Weak<Shared>,
    mut finished: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CALLERS));
    loop {
        let accepted = poll_fn(|cx| {
            ready!(pass.poll_open(cx));
            listener.poll_accept(cx)
        });
        let accepted = tokio::select! {
            biased;
            accepted = accepted => accepted,
            // An error means that nobody is left who could change it.
            _ = finished.wait_for(|finished| *finished) => return,
        };
        match accepted {
            Ok((stream, _)) => match Arc::clone(&room).try_acquire_owned() {
                Ok(permit) => drop(tokio::spawn(answer(stream, shared.clone(), permit))),
                Err(_) => {
                    let message = format!("{CALLERS} are connected already; try again");
                    Caller::new(stream).tell(&Event::refused(Refusal::Busy, message));
                }
            },
            Err(err) => {
                tracing::warn!(%err, "the control socket cannot accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, shared: Weak<Shared>, _permit: OwnedSemaphorePermit) {
    let caller = Arc::new(Caller::new(stream));
    if let Some(request) = caller.receive().await {
        ask(request, &caller, &shared);
    }
    caller.attend().await;
}

fn ask(request: Request, caller: &Arc<Caller>, shared: &Weak<Shared>) {
    let ended = || Event::refused(Refusal::Draining, "this process has drained");
    let Some(shared) = shared.upgrade() else {
        return caller.tell(&ended());
    };
    if request == Request::Status {
        let status = Box::new(Status::of(&shared));
        return caller.tell(&Event::Status { status });
    }
    tracing::info!(?request, "asked over the control socket");
    let request = conductor::Request::Control {
        request,
        caller: Arc::clone(caller),
    };
    if shared.requests.send(request).is_err() {
        caller.tell(&ended());
    }
}
