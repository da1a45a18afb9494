//! What makes a drain move when nobody else does: the end of the lame duck, the deadline, the end
//! of the grace after the cut.
//!
//! It runs as a task of the runtime that the drain began in. Without one, or when that runtime
//! ends before the drain does (as a worker's does that stops early), a thread takes over, so that
//! a deadline holds whatever becomes of whoever asked for the drain.
//!
//! Models have no clock: there, time passes when a model calls `Drain::tick`.

#[cfg(loom)]
mod imp {
    use std::sync::Arc;

    use crate::drain::Drain;

    #[derive(Default)]
    pub(crate) struct Clock;

    pub(crate) fn start(_: &Arc<Drain>, _: u64) {}

    pub(crate) fn poke(drain: &Drain) {
        let Clock = drain.clock;
    }
}

#[cfg(not(loom))]
mod imp {
    use std::{sync::Arc, thread};

    use tokio::{runtime, sync::Notify, time};

    use crate::drain::Drain;

    /// Tells all running clocks that their next tick has changed: beside that of the drain under
    /// way there may be one whose drain was taken back, and must not catch what is meant for both.
    #[derive(Default)]
    pub(crate) struct Clock(Notify);

    pub(crate) fn start(drain: &Arc<Drain>, ordinal: u64) {
        match runtime::Handle::try_current() {
            Ok(runtime) => {
                let run = Run {
                    drain: drain.clone(),
                    ordinal,
                };
                drop(runtime.spawn(run.run()));
            }
            Err(_) => on_a_thread(drain.clone(), ordinal),
        }
    }

    pub(crate) fn poke(drain: &Drain) {
        drain.clock.0.notify_waiters();
    }

    fn on_a_thread(drain: Arc<Drain>, ordinal: u64) {
        let name = "handover-clock".to_owned();
        let spawned = thread::Builder::new().name(name).spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_time().build();
            match runtime {
                Ok(runtime) => runtime.block_on(tick(&drain, ordinal)),
                Err(error) => tracing::error!(%error, "no timer for the drain's deadline"),
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for the drain's deadline");
        }
    }

    async fn tick(drain: &Arc<Drain>, ordinal: u64) {
        loop {
            // Made before the time is asked for: from here on no change is missed.
            let changed = drain.clock.0.notified();
            let Some(due) = drain.next_tick(ordinal) else {
                return;
            };
            tokio::select! {
                () = time::sleep_until(due) => drain.tick(ordinal),
                () = changed => {}
            }
        }
    }

    struct Run {
        drain: Arc<Drain>,
        ordinal: u64,
    }

    impl Run {
        async fn run(self) {
            tick(&self.drain, self.ordinal).await;
        }
    }

    impl Drop for Run {
        fn drop(&mut self) {
            // Dropped with work left: its runtime is being shut down.
            if self.drain.next_tick(self.ordinal).is_some() {
                on_a_thread(self.drain.clone(), self.ordinal);
            }
        }
    }
}

pub(crate) use imp::{Clock, poke, start};

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use crate::{Policy, Reason, drain::Drain};

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_to_every_clock() {
        let drain = Drain::new(Policy::default());
        let before = Arc::strong_count(&drain);
        let guard = drain.first_stage().gate().enter();
        drain.begin(Reason::Upgrade { successor: 7 });
        super::start(&drain, 1);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&drain), before + 2);
        assert!(drain.resume());
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&drain), before, "a clock waits on");
        drop(guard);
    }
}
