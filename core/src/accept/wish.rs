//! What a drain asks of a connection that could move.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use crate::{Graceful, Phase, Phases, signal::Word};

/// What a drain asks of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wish {
    /// To be served on: there is no drain, or it was taken back.
    #[default]
    Stay,
    /// To be [given](super::Movable::give) to the successor at its next message boundary.
    Move,
    /// To end: the service does, or the connection cannot move, or was refused in this drain. Say
    /// goodbye at the next boundary; or serve on, until the cut.
    Close,
}

/// What a drain asks of a connection, whenever that changes; [`Stay`](Wish::Stay) to begin with.
///
/// Returned by [`Movable::wishes`](super::Movable::wishes). It holds nothing of the connection, so
/// that this can be wrapped, or moved into a codec; and it goes on when the connection comes back
/// from a `give`.
#[must_use = "wishes have to be asked for"]
pub struct Wishes {
    phases: Phases,
    graceful: Graceful,
    can_move: bool,
    kept: Arc<Kept>,
    told: Wish,
}

impl Wishes {
    pub(super) fn new(graceful: &Graceful, can_move: bool, kept: &Arc<Kept>) -> Self {
        Self {
            phases: graceful.phases(),
            graceful: graceful.clone(),
            can_move,
            kept: kept.clone(),
            told: Wish::Stay,
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
        let wish = self.at(word);
        if wish == self.told {
            return Poll::Pending;
        }
        self.told = wish;
        Poll::Ready(wish)
    }

    fn at(&self, word: Word) -> Wish {
        match word.phase() {
            Phase::Running | Phase::LameDuck => Wish::Stay,
            Phase::Draining
                if self.can_move
                    && !self.kept.is_kept(word)
                    && self.graceful.reason().is_some_and(|r| r.is_upgrade()) =>
            {
                Wish::Move
            }
            _ => Wish::Close,
        }
    }
}

impl fmt::Debug for Wishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wishes").field(&self.told).finish()
    }
}

/// The drain in which a connection came back. It is not asked to move again in the same one: no two
/// drains have the same word.
#[derive(Debug, Default)]
pub(super) struct Kept(AtomicU32);

impl Kept {
    pub(super) fn keep(&self, word: Word) {
        self.0.store(word.number(), Ordering::Relaxed);
    }

    fn is_kept(&self, word: Word) -> bool {
        self.0.load(Ordering::Relaxed) == word.number()
    }
}
