//! What has arrived for one listener, between who receives it and who serves it.
//!
//! Each listener has such a queue from its beginning, and most of them are never given a connection
//! by it. So it allocates nothing before one comes: with thousands of listeners a channel of tokio's,
//! which begins with room for 32, takes more time in an upgrade than all else that is done for them.
//!
//! # Invariants
//!
//! 1. A waker is stored under the lock, after nothing was found under the same lock: no wake-up is
//!    lost.
//! 2. Nothing is in a queue that has been closed. What was is dropped, with no lock held, and so is
//!    what is to come.

use std::{
    collections::VecDeque,
    sync::Mutex,
    task::{Context, Poll, Waker, ready},
};

use tokio::task::coop;

use crate::{accept::Protocol, generation::shared::lock};

pub(super) struct Arrivals<T>(Mutex<State<T>>);

struct State<T> {
    queue: VecDeque<T>,
    waker: Option<Waker>,
    // None until somebody serves the listener.
    adopts: Vec<Protocol>,
    is_closed: bool,
}

/// Whether a listener takes what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// Nobody serves it yet.
    Nobody,
    Served,
    /// It has been dropped.
    Gone,
}

impl<T> Default for Arrivals<T> {
    fn default() -> Self {
        Self(Mutex::new(State {
            queue: VecDeque::new(),
            waker: None,
            adopts: Vec::new(),
            is_closed: false,
        }))
    }
}

impl<T> Arrivals<T> {
    pub(super) fn taker(&self) -> Taker {
        lock(&self.0).taker()
    }

    /// Says what the listener's server adopts.
    pub(super) fn adopt(&self, protocols: &[Protocol]) {
        lock(&self.0).adopts = protocols.to_vec();
    }

    /// What the listener's server adopts under this name and in this version.
    pub(super) fn adopts(&self, name: &str, version: u32) -> Option<Protocol> {
        let state = lock(&self.0);
        let mut adopts = state.adopts.iter();
        adopts.find(|one| one.adopts(name, version)).copied()
    }

    /// Adds what has arrived; comes back with it if nobody takes it.
    pub(super) fn push(&self, arrived: T) -> Result<(), T> {
        let mut state = lock(&self.0);
        if state.taker() != Taker::Served {
            return Err(arrived);
        }
        state.queue.push_back(arrived);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The next one. Many that come at once do not keep other tasks waiting.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<T> {
        let turn = ready!(coop::poll_proceed(cx));
        let mut state = lock(&self.0);
        if let Some(arrived) = state.queue.pop_front() {
            turn.made_progress();
            return Poll::Ready(arrived);
        }
        let is_stored = |waker: &Waker| waker.will_wake(cx.waker());
        let mut waker = None;
        if !state.waker.as_ref().is_some_and(is_stored) {
            waker = state.waker.replace(cx.waker().clone());
        }
        drop(state);
        drop(waker);
        Poll::Pending
    }

    /// Nobody takes anything any more.
    pub(super) fn close(&self) {
        let mut state = lock(&self.0);
        state.is_closed = true;
        let left = (std::mem::take(&mut state.queue), state.waker.take());
        drop(state);
        drop(left);
    }
}

impl<T> State<T> {
    fn taker(&self) -> Taker {
        match (self.is_closed, self.adopts.is_empty()) {
            (true, _) => Taker::Gone,
            (false, true) => Taker::Nobody,
            (false, false) => Taker::Served,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc};

    use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task};

    use super::*;

    fn served<T>() -> Arrivals<T> {
        let arrivals = Arrivals::default();
        arrivals.adopt(&[Protocol::HTTP]);
        arrivals
    }

    #[test]
    fn what_comes_wakes_who_serves_and_comes_out_in_its_order() {
        let arrivals = served();
        let mut next = task::spawn(poll_fn(|cx| arrivals.poll(cx)));
        assert_pending!(next.poll());
        assert_pending!(next.poll());
        arrivals.push(1).unwrap();
        assert!(next.is_woken());
        arrivals.push(2).unwrap();
        assert_ready_eq!(next.poll(), 1);
        assert_ready_eq!(next.poll(), 2);
        assert_pending!(next.poll());
        arrivals.push(3).unwrap();
        assert!(next.is_woken(), "it has waited anew");
    }

    #[test]
    fn who_serves_now_is_woken_and_not_who_did() {
        let arrivals = served();
        let mut before = task::spawn(poll_fn(|cx| arrivals.poll(cx)));
        assert_pending!(before.poll());
        let mut now = task::spawn(poll_fn(|cx| arrivals.poll(cx)));
        assert_pending!(now.poll());
        arrivals.push(()).unwrap();
        assert!(now.is_woken() && !before.is_woken());
        assert_ready!(now.poll());
    }

    #[test]
    fn nothing_is_taken_before_somebody_serves_nor_after() {
        let arrivals = Arrivals::default();
        assert_eq!(arrivals.taker(), Taker::Nobody);
        let item = Arc::new(());
        let back = arrivals.push(item.clone()).unwrap_err();
        assert!(Arc::ptr_eq(&back, &item));
        arrivals.adopt(&[Protocol::HTTP]);
        assert_eq!(arrivals.taker(), Taker::Served);
        arrivals.push(back).unwrap();
        assert_eq!(Arc::strong_count(&item), 2);
        arrivals.close();
        assert_eq!(Arc::strong_count(&item), 1, "what was there is dropped");
        assert_eq!(arrivals.taker(), Taker::Gone);
        assert!(arrivals.push(item).is_err());
    }

    #[tokio::test]
    async fn many_at_once_let_other_tasks_run() {
        let arrivals = served();
        for nth in 0..1_000 {
            arrivals.push(nth).unwrap();
        }
        let mut taken = 0;
        let mut all = task::spawn(poll_fn(|cx| {
            while arrivals.poll(cx).is_ready() {
                taken += 1;
            }
            Poll::<()>::Pending
        }));
        assert_pending!(all.poll());
        tokio::task::yield_now().await;
        assert!(all.is_woken(), "it goes on when others have run");
        drop(all);
        assert!((1..1_000).contains(&taken), "{taken} at once");
    }
}
