//! The moment at which a serve loop that cannot accept again may let go of its listener.

use std::future::Future;

use tokio::time::timeout;

use crate::{Graceful, Phase};

impl Graceful {
    /// Waits for a drain, and through its announce window, in which idle connections can still be
    /// told; shorter if nothing is left to wait for. Then it makes the drain final, as
    /// [`make_final`](Self::make_final) does, and returns true; or false, if the drain was taken back
    /// meanwhile.
    ///
    /// For serve loops that cannot accept again, as shutdown signal:
    ///
    /// ```
    /// # async fn example(graceful: handover::Graceful) {
    /// while !graceful.announced().await {}
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing; the window is that of the drain, and so is shorter for a call that
    /// comes later.
    pub fn announced(&self) -> impl Future<Output = bool> + Send + use<> {
        let graceful = self.clone();
        async move {
            graceful.draining().await;
            let mut phases = graceful.phases();
            let remaining = graceful.remaining().unwrap_or_default();
            let window = graceful.policy().announce(remaining);
            let turned = async {
                loop {
                    match phases.next().await {
                        Phase::Running => return false,
                        Phase::Drained => return true,
                        // At an early cut, too: all that is open is being ended, and a server that
                        // is told to stop meanwhile only holds that up.
                        _ => {}
                    }
                }
            };
            // What cannot be made final has just been taken back.
            timeout(window, turned).await.unwrap_or(true) && graceful.make_final()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::Reason;

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_window_is_over() {
        let window = Duration::from_secs(2);
        let graceful = Graceful::builder().announce(window).build();
        let held = graceful.guard();
        let announced = tokio::spawn(graceful.announced());
        let began = Instant::now();
        graceful.drain();
        assert!(announced.await.unwrap());
        assert_eq!(began.elapsed().as_millis() / 10, window.as_millis() / 10);
        drop(held);
        assert!(graceful.drained().await.is_complete());
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_early_if_nothing_is_left() {
        let graceful = Graceful::builder().announce(Duration::MAX).build();
        let held = graceful.guard();
        let announced = tokio::spawn(graceful.announced());
        let began = Instant::now();
        graceful.drain();
        tokio::task::yield_now().await;
        drop(held);
        assert!(announced.await.unwrap());
        assert!(began.elapsed() < Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn it_tells_of_a_drain_that_was_taken_back() {
        let graceful = Graceful::new();
        let held = graceful.guard();
        let announced = tokio::spawn(graceful.announced());
        graceful.drain_for(Reason::Upgrade { successor: 1 });
        tokio::task::yield_now().await;
        assert!(graceful.resume());
        assert!(!announced.await.unwrap());
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_announced_is_not_taken_back() {
        let graceful = Graceful::new();
        let held = graceful.guard();
        graceful.drain_for(Reason::Upgrade { successor: 1 });
        assert!(graceful.announced().await);
        assert!(!graceful.resume());
        drop(held);
    }
}
