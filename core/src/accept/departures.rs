//! How many idle connections leave at a time.

use std::{fmt, future::Future, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many connections on which nothing happens may be on their way to the successor at a time.
///
/// Thousands of them that left at once would stand in the way of those that have just been answered,
/// whose clients ask again in a moment. Whoever waits for its turn is served on meanwhile.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use futures_util::FutureExt;
/// use handover::accept::Departures;
///
/// let departures = Departures::limited(1);
/// let first = departures.next().await;
/// assert!(departures.next().now_or_never().is_none(), "one is on its way");
/// drop(first);
/// departures.next().await;
///
/// let departures = Departures::unlimited();
/// let both = (departures.next().await, departures.next().await);
/// # drop(both);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Departures(Option<Arc<Semaphore>>);

impl Departures {
    /// Any number.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// So many at a time.
    #[must_use]
    pub fn limited(number: usize) -> Self {
        Self(Some(Arc::new(Semaphore::new(number))))
    }

    /// Ends when one more may leave.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it loses its place in the queue and nothing else.
    pub fn next(&self) -> impl Future<Output = Departure> + Send + use<> {
        let number = self.0.clone();
        async move {
            match number {
                // The semaphore is never closed.
                Some(number) => Departure(number.acquire_owned().await.ok()),
                None => Departure(None),
            }
        }
    }
}

impl fmt::Debug for Departures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.0.as_ref().map(|number| number.available_permits());
        f.debug_tuple("Departures").field(&free).finish()
    }
}

/// A turn to leave; for another one when it is dropped.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use futures_util::FutureExt;
/// use handover::accept::{Departure, Departures};
///
/// let departures = Departures::limited(1);
/// let turn: Departure = departures.next().await;
/// let next = departures.next();
/// drop(turn);
/// assert!(next.now_or_never().is_some());
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropped, it lets another one leave"]
pub struct Departure(#[allow(dead_code, reason = "it is held")] Option<OwnedSemaphorePermit>);
