//! How a generation becomes the one that serves.
//!
//! 1. See that the pid file can be written: what can fail fails while the predecessor serves.
//! 2. Take over the real standard error; say that we are ready; wait for the commit.
//! 3. Listen where the predecessor was in the way, put the pid file in its place, close what is not
//!    used, open the gates.
//! 4. Say that we serve.

use std::{
    io::ErrorKind,
    sync::{Arc, Weak, atomic::Ordering},
};

use tracing::Instrument;

use super::shared::{Predecessor, Shared, lock};
use crate::{
    Stays,
    error::{Error, Kind},
    fault,
    moving::answers::Answers,
    pidfile::{self, Prepared},
    upgrade::{
        Checked,
        channel::Channel,
        frame::{self, Decoded, Message},
        relay,
    },
};

/// Becomes ready, once.
pub(super) async fn become_ready(shared: Arc<Shared>) -> Result<(), Error> {
    let _one_at_a_time = shared.becoming_ready.lock().await;
    if shared.is_ready() {
        return Ok(());
    }
    if shared.check {
        return Err(end_check(&shared).await);
    }
    let span = tracing::info_span!(
        target: "handover::upgrade",
        parent: None,
        "ready",
        generation = shared.number,
        pid = std::process::id(),
        predecessor = shared.predecessor.as_ref().map(|predecessor| predecessor.pid),
    );
    take_over(Arc::clone(&shared)).instrument(span).await
}

async fn take_over(shared: Arc<Shared>) -> Result<(), Error> {
    let predecessor = shared.predecessor.as_ref();
    // Any of them may have come back to the pid file, should one behind it have died.
    let mut before = shared.older.pids();
    before.extend(predecessor.map(|predecessor| predecessor.pid));
    let prepared = match &shared.pid_path {
        Some(path) => Some(Prepared::new(path, &before).inspect_err(|err| {
            shared.tell_predecessor(&Message::Failed {
                message: err.chain(),
            });
        })?),
        None => None,
    };
    let rest = match predecessor {
        Some(predecessor) => {
            let rest = take_over_stderr(predecessor);
            let span = tracing::info_span!(target: "handover::upgrade", "wait_for_commit");
            let committed = wait_for_commit(&shared, predecessor);
            committed.instrument(span).await?;
            fault::comes_to("commit-received").await;
            rest
        }
        None => None,
    };
    // From the commit until it is said who serves the drain is not over: who is told to stop in
    // between says so, and removes nothing before.
    let Some(_guard) = shared.graceful.guard() else {
        return Err(told_to_stop(&shared));
    };
    // The predecessor serves on until we do, so this is not too late to give up.
    if let Err(err) = shared.registry().listen_later() {
        let message = err.chain();
        shared.tell_predecessor(&Message::Failed { message });
        return Err(err);
    }
    if let Some(prepared) = prepared {
        match prepared.publish(&before) {
            Ok(file) => *lock(&shared.pid_file) = Some(file),
            // There is no way back behind a commit, and a service is more than its pid file.
            Err(err) if predecessor.is_some() => {
                tracing::error!(err = err.chain(), "serving without a pid file");
            }
            Err(err) => return Err(err),
        }
    }
    if predecessor.is_some() {
        fault::comes_to("pid-file-written").await;
    }
    shared.registry().close_unused();
    lock(&shared.left_streams).clear();
    shared.ready.store(true, Ordering::Release);
    shared.gate.open();
    shared.control_gate.open();
    shared.journal.running();
    if predecessor.is_some() {
        shared.journal.succeeded(shared.number);
    }
    shared.older.listen(&shared);
    if let Some(seat) = &shared.seat {
        seat.became_ready();
    }
    let pid = std::process::id();
    tracing::info!(generation = shared.number, pid, "serving");
    if predecessor.is_none() {
        // What it keeps is complete when the service counts as started.
        shared.keep_in_store();
        shared.manager.serves(None);
    }
    if let Some(predecessor) = predecessor {
        shared.tell_predecessor(&Message::Serving);
        if shared.graceful.is_stopping() {
            // The conductor saw that before there was something to say.
            shared.tell_predecessor(&Message::Bye);
            shared.become_alone();
        }
        let channel = Arc::clone(&predecessor.channel);
        tokio::spawn(watch(
            Arc::downgrade(&shared),
            channel,
            predecessor.pid,
            rest,
        ));
        fault::comes_to("serving-sent").await;
    }
    Ok(())
}

/// Reports what has been proven. The error is for the program, which is to end.
async fn end_check(shared: &Shared) -> Error {
    if let Some(path) = &shared.pid_path
        && let Err(err) = pidfile::prove(path)
    {
        let message = err.chain();
        shared.tell_predecessor(&Message::Failed { message });
        return err;
    }
    let checked = Checked {
        version: frame::VERSION,
        sockets: shared.registry().proven(),
    };
    let message = Message::Checked(checked);
    if let Some(checker) = &shared.predecessor
        && let Err(err) = checker.channel.send(&message, b"", &[]).await
    {
        tracing::warn!(%err, "who checks cannot be told");
    }
    let message = "this process was a check, and is to end: it has shown that it could serve";
    Error::new(Kind::Check, message)
}

/// Writes to the real standard error from now on. Returns the reading end of the pipe.
fn take_over_stderr(predecessor: &Predecessor) -> Option<std::os::fd::OwnedFd> {
    let (real, rest) = lock(&predecessor.stderr).take()?;
    if let Err(err) = rustix::stdio::dup2_stderr(&real) {
        tracing::warn!(%err, "standard error still goes through the predecessor");
    }
    Some(rest)
}

async fn wait_for_commit(shared: &Shared, predecessor: &Predecessor) -> Result<(), Error> {
    let channel = &predecessor.channel;
    let heir = || {
        // Not alone before it serves: one behind the predecessor may come back, to all files.
        let predecessor = predecessor.pid;
        tracing::warn!(
            predecessor,
            "the predecessor died during the upgrade, carrying on alone"
        );
    };
    let unused = shared.registry().unused();
    for names in unused.chunks(frame::SOCKETS) {
        let names = names.to_vec();
        // If it cannot be sent, neither can what follows.
        let _ = channel.send(&Message::Unused { names }, b"", &[]).await;
    }
    if channel.send(&Message::Ready, b"", &[]).await.is_err() {
        heir();
        return Ok(());
    }
    tracing::debug!(
        predecessor = predecessor.pid,
        "ready, waiting for the commit"
    );
    fault::comes_to("ready-sent").await;
    loop {
        let received = tokio::select! {
            biased;
            received = channel.recv() => received,
            () = shared.graceful.draining() => {
                return Err(told_to_stop(shared));
            }
        };
        match received.map(|received| received.map(|received| received.message)) {
            Ok(Some(Decoded::Known(Message::Commit))) => return Ok(()),
            Ok(Some(Decoded::Known(_))) => {}
            Ok(Some(Decoded::Unknown(what))) => {
                let _ = channel.try_send(&Message::Unknown { what });
            }
            Ok(None) => {
                heir();
                return Ok(());
            }
            Err(err) => {
                let message = "the predecessor sent something else than a commit";
                shared.tell_predecessor(&Message::Failed {
                    message: message.to_owned(),
                });
                return Err(Error::io(Kind::Channel, message, err));
            }
        }
    }
}

fn told_to_stop(shared: &Shared) -> Error {
    let message = "it was told to stop before it had taken over";
    shared.tell_predecessor(&Message::Failed {
        message: message.to_owned(),
    });
    Error::new(Kind::Draining, message)
}

/// Waits until the predecessor has gone, and says so.
async fn watch(
    shared: Weak<Shared>,
    channel: Arc<Channel>,
    predecessor: u32,
    rest: Option<std::os::fd::OwnedFd>,
) {
    let mut drained = false;
    let answers = Answers::new(channel.clone());
    loop {
        let received = match channel.recv().await {
            Ok(Some(received)) => received,
            Ok(None) => break,
            // One message is lost, and what else comes is not: the predecessor may be giving
            // connections, which it cannot take back from a process that lives.
            Err(err) if err.kind() == ErrorKind::InvalidData => {
                tracing::warn!(predecessor, %err, "a message could not be read");
                continue;
            }
            Err(err) => {
                tracing::warn!(predecessor, %err, "the channel to the predecessor has failed");
                break;
            }
        };
        if matches!(
            received.message,
            Decoded::Known(Message::Connections { .. })
        ) {
            fault::comes_to("connections-received").await;
        }
        match received.message {
            Decoded::Known(Message::Connections { connections, lazy }) => {
                let (payload, fds) = (&received.payload, received.fds);
                match shared.upgrade() {
                    Some(shared) => {
                        let adopters = &shared.adopters;
                        adopters.receive(&answers, connections, payload, fds, lazy);
                    }
                    // Without a generation nobody adopts.
                    None => {
                        let ids = connections.iter().map(|moved| moved.id).collect();
                        answers.refuse(ids, Stays::RefusedListener);
                    }
                }
            }
            Decoded::Known(Message::Settle) => answers.settle(),
            Decoded::Known(Message::Main { stored }) => {
                if let Some(shared) = shared.upgrade() {
                    shared.registry().ledger.extend(stored);
                    shared.become_main();
                }
            }
            Decoded::Known(message) => {
                drained |= message == Message::Bye;
                fault::comes_to("bye-heard").await;
            }
            Decoded::Unknown(what) => {
                let _ = channel.try_send(&Message::Unknown { what });
            }
        }
    }
    // An heir has what it holds.
    answers.settle();
    if let Some(shared) = shared.upgrade() {
        shared.become_alone();
        // One that had drained has said so itself, with a barrier.
        if !drained {
            shared.older.supersede(shared.number);
            shared.manager.alone();
        } else if !shared.manager.is_main() {
            // An older release, which does not say it.
            shared.become_main();
        }
        if !shared.manager.is_stopping() {
            shared.keep_in_store();
        }
    }
    tracing::info!(predecessor, drained, "predecessor gone");
    if let Some(rest) = rest {
        relay::take_over(rest).await;
    }
}
