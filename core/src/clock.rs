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

    /// Tells a running clock that its next tick has changed.
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
        // A permit is kept for a clock that is not waiting just now.
        drain.clock.0.notify_one();
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
        while let Some(due) = drain.next_tick(ordinal) {
            tokio::select! {
                () = time::sleep_until(due) => drain.tick(ordinal),
                () = drain.clock.0.notified() => {}
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
