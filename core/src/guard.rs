//! While one lives, the drain is not over.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    Phase,
    drain::Stage,
    gate::Shard,
    holder::Describe,
    signal::{Place, Word},
    sync::Strong,
    wait::Reached,
};

/// Holds a drain open until it is dropped.
///
/// Taken with [`Graceful::guard`](crate::Graceful::guard). Taking and dropping one is one locked
/// instruction each, on a cache line that the thread has to itself; nothing is allocated.
///
/// # Examples
///
/// ```
/// use handover::{Graceful, Phase};
///
/// let graceful = Graceful::new();
/// let guard = graceful.guard().expect("the drain is not over");
/// let second = guard.clone();
/// graceful.drain();
/// assert_eq!(guard.phase(), Phase::Draining);
/// drop(guard);
/// assert!(graceful.report().is_none(), "the second one holds it open");
/// drop(second);
/// assert_eq!(graceful.phase(), Phase::Drained);
/// ```
pub struct Guard {
    shard: Strong<Shard<Stage>>,
}

impl Guard {
    pub(crate) fn new(shard: Strong<Shard<Stage>>) -> Self {
        Self { shard }
    }

    /// Where the drain stands. One load.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.stage().phase()
    }

    pub(crate) fn stage(&self) -> &Arc<Stage> {
        self.shard.owner()
    }
}

impl Clone for Guard {
    /// A second guard: the drain waits for both.
    fn clone(&self) -> Self {
        // By way of the gate, so that a guard that moves between threads takes its new thread's
        // cache line. While this guard lives the gate is not empty, so it lets in.
        let shard = self.stage().gate().enter();
        Self {
            shard: shard.unwrap_or_else(|| self.shard.clone()),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("phase", &self.phase())
            .finish()
    }
}

/// A guard that says what it is: it is listed while it lives, and named when it is cut.
///
/// Taken with [`Graceful::hold`](crate::Graceful::hold).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::future::poll_fn;
///
/// use handover::{Graceful, Phase};
///
/// let graceful = Graceful::new();
/// let mut holder = graceful.hold("rebuild index").expect("the drain is not over");
/// assert_eq!(poll_fn(|cx| holder.poll_phase(cx)).await, Phase::Running);
/// assert_eq!(graceful.holders().len(), 1);
///
/// // A second task of the same job, which is not listed, and is woken at the cut.
/// let (guard, cutting) = (holder.guard(), holder.cutting());
/// let helper = tokio::spawn(async move {
///     cutting.await;
///     drop(guard);
/// });
///
/// graceful.cut();
/// assert_eq!(holder.phase(), Phase::Cutting);
/// drop(holder);
/// helper.await.unwrap();
/// assert_eq!(graceful.drained().await.cut[0].what.as_deref(), Some("rebuild index"));
/// # }
/// ```
pub struct Holder {
    // Before the guard, so that a drain that is over lists nobody.
    place: Place,
    told: Option<Word>,
    guard: Guard,
}

impl Holder {
    pub(crate) fn new(guard: Guard, subject: Arc<dyn Describe>) -> Self {
        Self {
            place: guard.stage().signal.join(Some(subject)),
            told: None,
            guard,
        }
    }

    /// Where the drain stands. One load.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.guard.phase()
    }

    /// A second guard, which is not listed.
    #[must_use]
    pub fn guard(&self) -> Guard {
        self.guard.clone()
    }

    /// Ends at the cut. For a second task that wants to be woken: a holder wakes one.
    pub fn cutting(&self) -> Reached {
        Reached::new(self.guard.stage().clone(), Phase::Cutting)
    }

    /// Where the drain stands, unlike any other time.
    #[cfg(feature = "accept")]
    pub(crate) fn word(&self) -> Word {
        self.guard.stage().signal.word()
    }

    /// Counts a connection that is not moved, in an upgrade.
    #[cfg(feature = "accept")]
    pub(crate) fn count_stayed(&self, why: crate::Stays) -> bool {
        self.guard.stage().count_stayed(why)
    }

    #[cfg(feature = "accept")]
    pub(crate) fn cut_grace(&self) -> std::time::Duration {
        self.guard.stage().cut_grace()
    }

    /// Ready with the phase whenever it has changed since the last time, and at first.
    ///
    /// Polled again without a change this costs two comparisons.
    ///
    /// # Cancel safety
    ///
    /// A phase that was not returned is returned by the next poll.
    pub fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<Phase> {
        let signal = &self.guard.stage().signal;
        let changed = signal.poll_change(&mut self.place, &mut self.told, cx);
        changed.map(Word::phase)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.guard.stage().signal.leave(&self.place);
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder")
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom), feature = "accept"))]
mod tests {
    use std::time::Duration;

    use crate::{Graceful, Policy, Reason, Stays};

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_not_moved_is_counted_in_an_upgrade_only() {
        let graceful = Graceful::new();
        let holder = graceful.hold("connection").unwrap();
        assert!(!holder.count_stayed(Stays::Busy), "there is no drain");
        graceful.drain_for(Reason::Upgrade { successor: 7 });
        assert!(holder.count_stayed(Stays::Busy));
        drop(holder);
        let report = graceful.drained().await;
        let stayed: Vec<_> = report.stayed.iter().collect();
        assert_eq!(stayed, [(Stays::Busy, 1)]);

        let graceful = Graceful::new();
        let holder = graceful.hold("connection").unwrap();
        graceful.drain();
        assert!(!holder.count_stayed(Stays::Busy), "nobody takes it");
    }

    #[test]
    fn the_grace_after_the_cut_is_the_policys() {
        let grace = Duration::from_millis(7);
        let graceful = Graceful::with_policy(Policy::default().with_cut_grace(grace));
        let holder = graceful.hold("connection").unwrap();
        assert_eq!(holder.cut_grace(), grace);
    }
}
