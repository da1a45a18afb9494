//! One connection's turn to be told, and who has to know that it was.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::Notify;

use super::Turn;
use crate::Graceful;

/// Tells a serve loop when one of its connections is to be told to go elsewhere, and others that it
/// was. Made by [`Graceful::connection`].
///
/// For connections that go on being served after they were told, such as HTTP/2's with GOAWAY. Up to
/// a hundred are told at once; more are spread over half the announce window
/// ([`Policy::with_announce`](crate::Policy::with_announce)), the least recently
/// [active](Self::touch) first. One that has not been told is served as ever.
///
/// What ends with the connection's drain must not end before: a client that has not been told would
/// begin it again where it was. So the turns of the connection's own token come when it was told.
///
/// A connection that is dropped untold counts as told: nobody is there any more.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::future::poll_fn;
///
/// use handover::Graceful;
///
/// let graceful = Graceful::new();
/// let (token, mut announcer) = graceful.connection();
/// let told = token.told_to_go().expect("it is a connection's");
/// announcer.touch(); // whenever the client has sent something
///
/// let _connection = graceful.guard();
/// graceful.drain();
/// poll_fn(|cx| announcer.poll(cx)).await;
/// // Here goes GOAWAY.
/// announcer.tell();
/// assert!(announcer.has_told());
/// told.await;
/// # }
/// ```
pub struct Announcer {
    // Gives up its place once the client has been told.
    turn: Option<Turn>,
    told: Arc<Told>,
}

impl Announcer {
    pub(crate) fn new(turn: Turn, told: Arc<Told>) -> Self {
        Self {
            turn: Some(turn),
            told,
        }
    }

    /// Says that the client has just been active. Costs a look at the clock and a store.
    pub fn touch(&self) {
        if let Some(turn) = &self.turn {
            turn.touch();
        }
    }

    /// Ready when it is time to tell the client, in a lame duck or a drain. Not again once it was
    /// told.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.turn {
            Some(turn) => turn.poll(cx),
            None => Poll::Pending,
        }
    }

    /// Says that the client has been told: what comes from now on, comes after.
    pub fn tell(&mut self) {
        self.turn = None;
        self.told.tell();
    }

    /// Returns true if the client has been told.
    #[must_use]
    pub fn has_told(&self) -> bool {
        self.told.is_told()
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.told.tell();
    }
}

impl fmt::Debug for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcer")
            .field("has_told", &self.has_told())
            .finish_non_exhaustive()
    }
}

/// Whether a client has been told, and whom to tell that.
#[derive(Debug, Default)]
pub(crate) struct Told {
    is_told: AtomicBool,
    waiting: Notify,
}

impl Told {
    fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Acquire)
    }

    fn tell(&self) {
        if !self.is_told.swap(true, Ordering::AcqRel) {
            self.waiting.notify_waiters();
        }
    }

    /// Ends when the client has been told.
    pub(crate) async fn wait(&self) {
        // Before the look: it hears of what is said from here on.
        let told = self.waiting.notified();
        if !self.is_told() {
            told.await;
        }
    }
}

impl Graceful {
    /// A token for one connection, and its end for the loop that serves the connection: for loops
    /// that tell their clients to go while they go on serving them.
    ///
    /// Requests of the connection get this token. It is the same drain, seen by one who knows whether
    /// the connection's client has been [told](Self::told_to_go).
    #[must_use]
    pub fn connection(&self) -> (Self, Announcer) {
        let told = Arc::new(Told::default());
        let announcer = Announcer::new(Turn::announce(self), told.clone());
        (self.with_told(told), announcer)
    }

    /// Ends when the client of this token's connection has been told to go, and not again: `None`
    /// where the token is not of a [connection](Self::connection), or nobody says so.
    ///
    /// A stream that its server ends before that is begun again on the same connection.
    pub fn told_to_go(&self) -> Option<impl Future<Output = ()> + Send + Sync + use<>> {
        let told = self.told()?.clone();
        Some(async move { told.wait().await })
    }

    /// Returns true once that is so, and where nobody would say so.
    pub(crate) fn is_told_to_go(&self) -> bool {
        self.told().is_none_or(|told| told.is_told())
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    #[test]
    fn those_who_wait_for_it_are_woken_when_it_has_told() {
        let graceful = Graceful::new();
        assert!(graceful.is_told_to_go(), "nobody would say so");
        let (token, mut announcer) = graceful.connection();
        let mut told = task::spawn(token.told_to_go().unwrap());
        assert_pending!(told.poll());
        assert!(!announcer.has_told() && !token.is_told_to_go());
        announcer.tell();
        assert!(announcer.has_told() && token.is_told_to_go());
        assert!(told.is_woken());
        assert_ready!(told.poll());
    }
}
