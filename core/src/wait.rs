//! The futures that end with a phase.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use crate::{
    Phase, Report,
    drain::{Drain, Stage},
    graceful::Graceful,
    signal::{Place, Signal, Word},
};

// What has the signal that is waited for.
trait Source {
    fn signal(&self) -> &Signal;
}

impl Source for Arc<Stage> {
    fn signal(&self) -> &Signal {
        &self.signal
    }
}

impl Source for Arc<Drain> {
    fn signal(&self) -> &Signal {
        &self.done
    }
}

struct Wait<S: Source> {
    source: S,
    until: Phase,
    place: Option<Place>,
}

impl<S: Source> Wait<S> {
    fn new(source: S, until: Phase) -> Self {
        Self {
            source,
            until,
            place: None,
        }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let signal = self.source.signal();
        if signal.word().phase() >= self.until {
            return Poll::Ready(());
        }
        let place = self.place.get_or_insert_with(|| signal.join(None));
        match signal.watch(place, cx).phase() >= self.until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<S: Source> Drop for Wait<S> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.source.signal().leave(&place);
        }
    }
}

/// Ends once a phase has been reached. Level-triggered: a future made later ends at once.
///
/// Returned by [`Graceful::lame_duck`], [`Graceful::draining`] and [`Graceful::cutting`].
///
/// # Cancel safety
///
/// Dropping it loses nothing.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let graceful = handover::Graceful::new();
/// let watcher = tokio::spawn(graceful.draining());
/// graceful.drain();
/// watcher.await.unwrap();
/// graceful.draining().await; // ends at once
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Reached(Wait<Arc<Stage>>);

impl Reached {
    pub(crate) fn new(stage: Arc<Stage>, until: Phase) -> Self {
        Self(Wait::new(stage, until))
    }
}

impl Future for Reached {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

impl fmt::Debug for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reached").field(&self.0.until).finish()
    }
}

/// Ends with the report once the drain is over, in all stages.
///
/// Returned by [`Graceful::drained`].
///
/// # Cancel safety
///
/// Dropping it loses nothing: the report can be asked for again.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let graceful = handover::Graceful::new();
/// let logged = tokio::spawn(graceful.drained());
/// graceful.drain();
/// assert!(logged.await.unwrap().is_complete());
/// assert!(graceful.drained().await.is_complete(), "and as often as it is asked for");
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Drained {
    wait: Wait<Arc<Drain>>,
    // Keeps the drain possible while somebody waits for it.
    _graceful: Graceful,
}

impl Drained {
    pub(crate) fn new(drain: Arc<Drain>, graceful: Graceful) -> Self {
        Self {
            wait: Wait::new(drain, Phase::Drained),
            _graceful: graceful,
        }
    }
}

impl Future for Drained {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        ready!(self.wait.poll(cx));
        let report = self.wait.source.report();
        Poll::Ready(report.expect("written before the drain is said to be over"))
    }
}

impl fmt::Debug for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drained").finish_non_exhaustive()
    }
}

/// The phase, and then each change of it. Returned by [`Graceful::phases`].
///
/// Changes that follow each other fast may be seen as one: what is returned is always the present
/// phase.
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
/// let mut phases = graceful.phases();
/// assert_eq!(phases.next().await, Phase::Running);
/// let _job = graceful.guard();
/// graceful.drain();
/// assert_eq!(poll_fn(|cx| phases.poll_next(cx)).await, Phase::Draining);
/// # }
/// ```
pub struct Phases {
    stage: Arc<Stage>,
    place: Place,
    told: Option<Word>,
}

impl Phases {
    pub(crate) fn new(stage: Arc<Stage>) -> Self {
        Self {
            place: stage.signal.join(None),
            stage,
            told: None,
        }
    }

    /// The phase, once it differs from what was returned last; at first, at once.
    ///
    /// # Cancel safety
    ///
    /// A change that was not returned is returned by the next call.
    pub async fn next(&mut self) -> Phase {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Where the drain stands; the task is woken when that changes.
    #[cfg(feature = "accept")]
    pub(crate) fn watch(&mut self, cx: &Context<'_>) -> Word {
        self.stage.signal.watch(&mut self.place, cx)
    }

    /// What [`next`](Self::next) awaits.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Phase> {
        let signal = &self.stage.signal;
        let changed = signal.poll_change(&mut self.place, &mut self.told, cx);
        changed.map(Word::phase)
    }
}

impl Drop for Phases {
    fn drop(&mut self) {
        self.stage.signal.leave(&self.place);
    }
}

impl fmt::Debug for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Phases").field(&self.stage.phase()).finish()
    }
}
