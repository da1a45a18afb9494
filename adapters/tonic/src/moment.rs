//! When a stream is to be ended for a drain.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use handover::{Graceful, Phase, Phases};
use tokio::time::{Sleep, sleep};

/// Ready once the stream is to end. A drain that is taken back takes this back, too.
#[derive(Debug)]
pub(crate) struct Moment {
    graceful: Graceful,
    phases: Phases,
    when: When,
    sleep: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// As soon as the drain begins.
    AtOnce,
    /// When the announce window is over.
    AfterTheWindow,
}

impl Moment {
    pub(crate) fn new(graceful: &Graceful, when: When) -> Self {
        Self {
            graceful: graceful.clone(),
            phases: graceful.phases(),
            when,
            sleep: None,
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(phase) = self.phases.poll_next(cx) {
            self.sleep = match phase {
                Phase::Running | Phase::LameDuck => None,
                Phase::Draining => Some(Box::pin(sleep(self.delay()))),
                _ => return Poll::Ready(()),
            };
        }
        match &mut self.sleep {
            Some(sleep) => {
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(())
            }
            None => Poll::Pending,
        }
    }

    fn delay(&self) -> Duration {
        let remaining = self.graceful.remaining().unwrap_or_default();
        let window = self.graceful.policy().announce(remaining);
        match self.when {
            When::AtOnce => Duration::ZERO,
            When::AfterTheWindow => window,
        }
    }
}
