//! What a drain asks of a connection that could move.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{Graceful, Phase, Phases, signal::Word};

/// For how long a connection that came back is served on before it is asked to close. A successor
/// that dies closes its channel, and so refuses, a moment before it is known to have died; and then
/// there is no drain any more.
const SECOND_THOUGHTS: Duration = Duration::from_secs(1);

/// What a drain asks of a connection.
///
/// # Examples
///
/// ```
/// use handover::accept::{Movable, Wish};
///
/// /// Waits until a session that has nothing to do is to end here.
/// async fn idle<Io: 'static>(session: Movable<Io>) -> Result<(), Movable<Io>> {
///     let mut wishes = session.wishes();
///     loop {
///         match wishes.next().await {
///             Wish::Stay => {}
///             Wish::Move => return session.give("", "").await,
///             // Dropped, it is closed.
///             _ => return Ok(()),
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wish {
    /// To be served on: there is no drain, or it was taken back, or the connection has just come
    /// back.
    #[default]
    Stay,
    /// To be [given](super::Movable::give) to the successor at its next message boundary.
    Move,
    /// To end: the service does, or the connection cannot move, or came back a second ago and the
    /// drain goes on. Say goodbye at the next boundary; or serve on, until the cut.
    Close,
}

/// What a drain asks of a connection, whenever that changes; [`Stay`](Wish::Stay) to begin with.
///
/// Returned by [`Movable::wishes`](super::Movable::wishes). It holds nothing of the connection, so
/// that this can be wrapped, or moved into a codec; and it goes on when the connection comes back
/// from a `give`.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::future::poll_fn;
///
/// use futures_util::FutureExt;
/// use handover::{Connection, Graceful, accept::{Movable, Parcel, Protocol, Wish}};
///
/// # let (_client, io) = tokio::io::duplex(64);
/// let graceful = Graceful::new();
/// let connection = Connection::new("10.0.0.3:51234".parse()?);
/// let holder = connection.hold(&graceful).expect("the drain is not over");
/// let parcel = Parcel::new(io, Vec::new(), connection);
/// let session = Movable::new(parcel, Protocol::new("lines", 1), &graceful, holder, None);
///
/// let mut wishes = session.wishes();
/// assert!(wishes.next().now_or_never().is_none(), "nothing is wished yet");
/// graceful.drain();
/// // There is no successor, so it is not to move.
/// assert_eq!(poll_fn(|cx| wishes.poll_next(cx)).await, Wish::Close);
/// # Ok(())
/// # }
/// ```
#[must_use = "wishes have to be asked for"]
pub struct Wishes {
    phases: Phases,
    graceful: Graceful,
    can_move: bool,
    kept: Arc<Kept>,
    told: Wish,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wishes {
    pub(super) fn new(graceful: &Graceful, can_move: bool, kept: &Arc<Kept>) -> Self {
        Self {
            phases: graceful.phases(),
            graceful: graceful.clone(),
            can_move,
            kept: kept.clone(),
            told: Wish::Stay,
            timer: None,
        }
    }

    /// What is wished, once it differs from what was returned last.
    ///
    /// # Cancel safety
    ///
    /// A wish that was not returned is returned by the next call.
    pub async fn next(&mut self) -> Wish {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What [`next`](Self::next) awaits.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Wish> {
        let word = self.phases.watch(cx);
        let wish = self.at(word, cx);
        if wish == self.told {
            return Poll::Pending;
        }
        self.told = wish;
        Poll::Ready(wish)
    }

    fn at(&mut self, word: Word, cx: &mut Context<'_>) -> Wish {
        match word.phase() {
            Phase::Running | Phase::LameDuck => Wish::Stay,
            Phase::Draining if self.can_move && !self.graceful.is_stopping() => {
                let Some(kept) = self.kept.since(word) else {
                    return Wish::Move;
                };
                match self.poll_until(kept + SECOND_THOUGHTS, cx) {
                    Poll::Ready(()) => Wish::Close,
                    Poll::Pending => Wish::Stay,
                }
            }
            _ => Wish::Close,
        }
    }

    fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if at <= Instant::now() {
            return Poll::Ready(());
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }
}

impl fmt::Debug for Wishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wishes").field(&self.told).finish()
    }
}

/// The drain in which a connection came back, and when. It is not asked to move again in the same
/// one: no two drains have the same word.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<(Word, Instant)>>);

impl Kept {
    pub(super) fn keep(&self, word: Word) {
        *self.lock() = Some((word, Instant::now()));
    }

    /// When it came back, if it was in this drain.
    fn since(&self, word: Word) -> Option<Instant> {
        let (drain, since) = (*self.lock())?;
        (drain == word).then_some(since)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Word, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
