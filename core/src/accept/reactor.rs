//! Waiting until the runtime knows what the kernel knew a moment ago.
//!
//! A socket of tokio's says "nothing there" for as long as the reactor has not told it of what came, and
//! the reactor runs in one thread of several, which other programs may keep from the processor. Whoever
//! asks for the last time has to be sure.
//!
//! # Invariants
//!
//! 1. The kernel tells of what became ready in the order in which it did (epoll and kqueue keep lists). So
//!    an event of our own, made now, is told behind all that was there before it.
//! 2. Many may wait for one event, if each of them came before it was made: a round is joined, under its
//!    lock, only while it has not begun.
//! 3. A round ends with its task: where the runtime drops that, nobody waits for it any more.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
};

use tokio::sync::watch;

use crate::sync::{Mutex, lock};

/// How often to let others run, where there is no such event.
const YIELDS: usize = 3;

/// Ends when the reactor of this runtime has told of all that the kernel had when this was first polled.
///
/// For who closes a connection, or a listener, because nothing has come: a socket of tokio's says so as
/// well while its reactor, in another thread, has not been let run. What comes later is another matter.
/// Waiting costs an event of the kernel's, which all share that ask in one turn of a thread, so that ten
/// thousand connections may be closed at once.
///
/// # Panics
///
/// Outside of a runtime of tokio's.
///
/// # Cancel safety
///
/// Nothing is lost: ask again.
///
/// # Examples
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> std::io::Result<()> {
/// use tokio::{io::AsyncWriteExt, net::{TcpListener, TcpStream}};
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (stream, _) = listener.accept().await?;
/// client.write_all(b"GET").await?;
///
/// handover::accept::reactor_has_looked().await;
/// let mut come = [0; 8];
/// assert_eq!(stream.try_read(&mut come)?, 3);
/// # Ok(())
/// # }
/// ```
pub async fn reactor_has_looked() {
    let mut round = join();
    // An error: its task was dropped, with the runtime.
    let _ = round.changed().await;
}

thread_local! {
    // Each thread its own, so that threads meet nowhere, and runtimes are not mixed up.
    static NEXT: RefCell<Weak<Round>> = const { RefCell::new(Weak::new()) };
}

/// An event that is still to be made, and who has made it.
#[derive(Debug)]
struct Round {
    begun: Mutex<bool>,
    over: watch::Receiver<()>,
    runtime: tokio::runtime::Id,
}

fn join() -> watch::Receiver<()> {
    NEXT.with_borrow_mut(|next| {
        let runtime = tokio::runtime::Handle::current().id();
        if let Some(round) = next.upgrade().filter(|round| round.runtime == runtime)
            && !*lock(&round.begun)
        {
            return round.over.clone();
        }
        let (end, over) = watch::channel(());
        let round = Arc::new(Round {
            begun: Mutex::new(false),
            over: over.clone(),
            runtime,
        });
        *next = Arc::downgrade(&round);
        tokio::spawn(async move {
            // Others that are to run in this turn may join.
            tokio::task::yield_now().await;
            *lock(&round.begun) = true;
            look().await;
            drop(end);
        });
        over
    })
}

async fn look() {
    #[cfg(unix)]
    if event_of_our_own().await.is_ok() {
        return;
    }
    // As after running out of descriptors: the best that can be done without one.
    for _ in 0..YIELDS {
        tokio::task::yield_now().await;
    }
}

#[cfg(unix)]
async fn event_of_our_own() -> std::io::Result<()> {
    use std::{io::Write, os::unix::net::UnixStream};

    let (here, mut there) = UnixStream::pair()?;
    there.write_all(&[0])?;
    here.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(here)?.readable().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_before_it_is_made_waits_for_the_same_event() {
        let one = join();
        let other = join();
        assert!(one.same_channel(&other), "two events for one turn");
        reactor_has_looked().await;
        assert!(one.has_changed().is_err(), "they waited for it too");
        assert!(!join().same_channel(&one), "it was made before this came");
    }

    #[test]
    fn another_runtime_does_not_wait_for_one_that_has_gone() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().unwrap()
        };
        let first = runtime();
        let round = first.block_on(async { join() });
        let second = runtime();
        second.block_on(async {
            assert!(!join().same_channel(&round));
            reactor_has_looked().await;
        });
        drop(first);
        second.block_on(async { assert!(round.clone().changed().await.is_err()) });
    }
}
