//! What the manager is told again and again: that this process lives, and that what takes long goes
//! on.
//!
//! All of it comes from tasks on the runtime that serves, so it ends if that hangs.

use std::{convert::Infallible, fmt::Write, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::{Manager, Message, PACE};
use crate::{Graceful, Phase};

/// How often the manager is told how far a drain or a start is.
const TICK: Duration = Duration::from_secs(2);
/// For how long it is asked to wait at a time: it notices after no longer that nothing goes on.
pub(super) const STEP: Duration = Duration::from_secs(10);
/// What is asked for beyond our own deadline, to end after it.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Sends signs of life while this is the main process, two in the time that the manager waits.
pub(crate) async fn live(manager: Arc<Manager>) {
    let Some(period) = manager.environment.watchdog else {
        return;
    };
    let mut main = manager.main.subscribe();
    while main.wait_for(|main| *main).await.is_ok() {
        manager.tell(&Message::default().line("WATCHDOG=1"));
        tokio::select! {
            () = sleep(period / 2) => {}
            _ = main.changed() => {}
        }
    }
}

/// Reports a drain until it is over or taken back, and asks for the time that it may take.
pub(crate) async fn report_drain(manager: Arc<Manager>, graceful: Graceful) {
    if !manager.is_listening() {
        return;
    }
    let mut said = String::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is at once, and has been told with the beginning of the drain.
    ticks.tick().await;
    loop {
        tokio::select! {
            biased;
            _ = graceful.drained() => return,
            _ = ticks.tick() => {}
        }
        if graceful.phase() == Phase::Running {
            return;
        }
        manager.tell(&drain(Message::default(), &graceful, &mut said));
    }
}

/// Adds how far a drain is, unless that has been said, and the time that it may still take.
///
/// It may always take what its deadline leaves, whether or not anything ends meanwhile: the manager
/// must not cut before we do. What is asked for piece by piece is the proof that we will.
pub(super) fn drain(message: Message, graceful: &Graceful, said: &mut String) -> Message {
    let left = graceful.remaining().unwrap_or_default();
    let status = drain_status(graceful, left);
    let message = if status == *said {
        message
    } else {
        said.clone_from(&status);
        message.status(status)
    };
    message.extend(ask(to_the_end(graceful)))
}

/// How long the drain may still take, the grace after its cut included.
fn to_the_end(graceful: &Graceful) -> Duration {
    let grace = graceful.policy().cut_grace();
    match graceful.drain_ref().entered() {
        // Whenever that was: what the deadline leaves does not matter any more.
        Some(cut_at) if graceful.phase() == Phase::Cutting => {
            grace.saturating_sub(cut_at.elapsed())
        }
        _ => graceful.remaining().unwrap_or_default() + grace,
    }
}

/// `draining: 12 connections, 1 task, longest 8 s, 17 s left`
fn drain_status(graceful: &Graceful, left: Duration) -> String {
    let holders = graceful.holders();
    let connections = holders.iter().filter(|holder| holder.kind.is_connection());
    let connections = connections.count();
    let others = holders.len() - connections;
    let mut status = "draining".to_owned();
    let mut before = ": ";
    for (count, what) in [(connections, "connection"), (others, "request or task")] {
        let plural = match (count, what) {
            (0, _) => continue,
            (1, what) => what.to_owned(),
            (_, "connection") => "connections".to_owned(),
            _ => "requests and tasks".to_owned(),
        };
        // Writing to a string does not fail.
        let _ = write!(status, "{before}{count} {plural}");
        before = ", ";
    }
    if let Some(longest) = holders.iter().map(|holder| holder.age).max() {
        let _ = write!(status, "{before}longest {} s", longest.as_secs());
        before = ", ";
    } else if graceful.guards() > 0 {
        let _ = write!(status, "{before}{} at work", graceful.guards());
        before = ", ";
    }
    let _ = write!(status, "{before}{} s left", left.as_secs());
    status
}

/// Asks for the time that a successor may take to be ready, and passes on what it says it does.
/// `limit` is when it is killed. Runs until it is dropped.
pub(crate) async fn report_start(manager: Arc<Manager>, limit: Duration) -> Infallible {
    if !manager.is_listening() {
        // For ever.
        std::future::pending::<()>().await;
    }
    let until = Instant::now() + limit;
    // What an attempt before this one has said is not of this one.
    manager.progress.send_replace(String::new());
    let mut progress = manager.progress.subscribe();
    let (serving, starting) = (manager.generation, manager.generation + 1);
    let mut said = None;
    loop {
        let text = progress.borrow_and_update().clone();
        let left = until.saturating_duration_since(Instant::now());
        let mut message = Message::default();
        if said.as_ref() != Some(&text) {
            let before = if text.is_empty() { "" } else { ": " };
            message = message.status(format_args!(
                "generation {serving} serves, generation {starting} starts{before}{text}"
            ));
            said = Some(text);
        }
        if !left.is_zero() {
            message = message.extend(ask(left));
        }
        manager.tell(&message);
        let next = Instant::now() + TICK;
        sleep(PACE).await;
        tokio::select! {
            () = sleep_until(next) => {}
            // The sender is the manager's, so it is there.
            _ = progress.changed() => {}
        }
    }
}

/// How long to ask for, when so much is left.
fn ask(left: Duration) -> Duration {
    left.min(STEP) + GRACE
}

#[cfg(test)]
mod tests;
