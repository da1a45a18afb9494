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
//! 4. Wakers are called and dropped with no lock held.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

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
    Looked(None).await;
}

thread_local! {
    // Each thread its own, so that threads meet nowhere, and runtimes are not mixed up.
    static NEXT: RefCell<Weak<Round>> = const { RefCell::new(Weak::new()) };
}

/// An event that is made once, for all that have come before it.
#[derive(Debug)]
struct Round {
    state: Mutex<State>,
    runtime: tokio::runtime::Id,
}

#[derive(Debug, Default)]
struct State {
    begun: bool,
    over: bool,
    // Each waits at a place of its own. Who has gone is woken for nothing.
    waiting: Vec<Waker>,
}

/// Waits for the round that begins next when this is first polled, at this place.
struct Looked(Option<(Arc<Round>, usize)>);

impl Future for Looked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some((round, place)) = &self.0 else {
            self.0 = Some(join(cx.waker()));
            return Poll::Pending;
        };
        let mut state = lock(&round.state);
        if state.over {
            return Poll::Ready(());
        }
        let mut old = None;
        if let Some(waker) = state.waiting.get_mut(*place)
            && !waker.will_wake(cx.waker())
        {
            old = Some(std::mem::replace(waker, cx.waker().clone()));
        }
        drop(state);
        // With no lock held: it may be the last of a task.
        drop(old);
        Poll::Pending
    }
}

impl Round {
    /// A place in it, unless it has begun.
    fn join(&self, waker: &Waker) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.begun {
            return None;
        }
        state.waiting.push(waker.clone());
        Some(state.waiting.len() - 1)
    }
}

/// Ends a round, wherever its task ends.
struct Ends(Arc<Round>);

impl Drop for Ends {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.over = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

fn join(waker: &Waker) -> (Arc<Round>, usize) {
    NEXT.with_borrow_mut(|next| {
        let runtime = tokio::runtime::Handle::current().id();
        if let Some(round) = next.upgrade().filter(|round| round.runtime == runtime)
            && let Some(place) = round.join(waker)
        {
            return (round, place);
        }
        let round = Arc::new(Round {
            state: Mutex::new(State {
                waiting: vec![waker.clone()],
                ..State::default()
            }),
            runtime,
        });
        *next = Arc::downgrade(&round);
        let ends = Ends(round.clone());
        tokio::spawn(async move {
            // Others that are to run in this turn may join.
            tokio::task::yield_now().await;
            lock(&ends.0.state).begun = true;
            look().await;
            drop(ends);
        });
        (round, 0)
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

    /// Joins, as who is woken by nobody.
    fn joined() -> Arc<Round> {
        join(Waker::noop()).0
    }

    fn is_over(round: &Round) -> bool {
        lock(&round.state).over
    }

    #[tokio::test]
    async fn who_asks_before_it_is_made_waits_for_the_same_event() {
        let one = joined();
        let other = joined();
        assert!(Arc::ptr_eq(&one, &other), "two events for one turn");
        reactor_has_looked().await;
        assert!(is_over(&one), "they waited for it too");
        assert!(
            !Arc::ptr_eq(&joined(), &one),
            "it was made before this came"
        );
    }

    #[tokio::test]
    async fn who_waits_now_is_woken_and_not_who_did() {
        let mut looked = Looked(None);
        let mut before = tokio_test::task::spawn(());
        let mut poll = |cx: &mut Context<'_>| Pin::new(&mut looked).poll(cx);
        assert!(before.enter(|cx, _| poll(cx)).is_pending());
        let mut now = tokio_test::task::spawn(());
        assert!(now.enter(|cx, _| poll(cx)).is_pending());
        reactor_has_looked().await;
        assert!(now.is_woken() && !before.is_woken());
        assert!(now.enter(|cx, _| poll(cx)).is_ready());
    }

    #[test]
    fn another_runtime_does_not_wait_for_one_that_has_gone() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().unwrap()
        };
        let first = runtime();
        let round = first.block_on(async { joined() });
        let second = runtime();
        second.block_on(async {
            assert!(!Arc::ptr_eq(&joined(), &round));
            reactor_has_looked().await;
        });
        assert!(!is_over(&round));
        drop(first);
        assert!(is_over(&round), "its task was dropped");
    }
}
