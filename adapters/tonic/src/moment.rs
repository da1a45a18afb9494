//! When a stream is to be ended for a drain.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use handover::{Graceful, Phase, Phases};
use tokio::time::sleep;

/// How long after the window connections have been told to go, twice that at most.
const AFTER: Duration = Duration::from_millis(100);

/// How long a client has to leave such a stream by itself, once it has been told to go.
///
/// gRPC's own clients close their `Watch` with GOAWAY. One that ends right before they have read that
/// is asked for again on the same connection, by then refused, and taken for a service that is ill:
/// calls fail with "health check call failed" where nothing was wrong.
const PATIENCE: Duration = Duration::from_secs(1);

type Wait = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Ready once the stream is to end. A drain that is taken back takes this back, too.
pub(crate) struct Moment {
    graceful: Graceful,
    phases: Phases,
    when: When,
    wait: Option<Wait>,
}

/// On a loop that does not say when it tells its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// A little after the drain began, when clients that leave by themselves have left.
    Soon,
    /// When the announce window is over. For a stream that is begun in a drain: on a connection that
    /// has not been told to go yet it would be begun again and again.
    AfterTheWindow,
}

impl Moment {
    pub(crate) fn new(graceful: &Graceful, when: When) -> Self {
        Self {
            graceful: graceful.clone(),
            phases: graceful.phases(),
            when,
            wait: None,
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(phase) = self.phases.poll_next(cx) {
            self.wait = match phase {
                Phase::Running | Phase::LameDuck => None,
                Phase::Draining => Some(self.wait()),
                _ => return Poll::Ready(()),
            };
        }
        match &mut self.wait {
            Some(wait) => wait.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    fn wait(&self) -> Wait {
        match self.graceful.told_to_go() {
            Some(announced) => {
                let graceful = self.graceful.clone();
                Box::pin(async move {
                    announced.await;
                    sleep(patience(&graceful)).await;
                })
            }
            None => Box::pin(sleep(self.delay())),
        }
    }

    fn delay(&self) -> Duration {
        match self.when {
            When::Soon => patience(&self.graceful),
            When::AfterTheWindow => {
                let policy = self.graceful.policy();
                let is_upgrade = !self.graceful.is_stopping();
                let deadline = policy.deadline(is_upgrade);
                let elapsed =
                    deadline - self.graceful.remaining().unwrap_or_default().min(deadline);
                let left = policy.announce(deadline).saturating_sub(elapsed);
                left + AFTER.mul_f64(1.0 + fastrand::f64())
            }
        }
    }
}

fn patience(graceful: &Graceful) -> Duration {
    PATIENCE.min(graceful.remaining().unwrap_or_default() / 2)
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moment")
            .field("when", &self.when)
            .finish_non_exhaustive()
    }
}
