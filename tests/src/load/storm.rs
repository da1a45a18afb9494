//! Starts the clients, watches them, stops them.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    client::Client,
    config::Config,
    failure::{Failure, Loss},
    kind::Kind,
    latency::Quantiles,
    report::Report,
    stats::Recorder,
};

/// What a client may take beyond its request's time limit before a stop gives up on it.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A running load. Dropping it ends all clients at once; [`stop`](Self::stop) ends them well.
#[derive(Debug)]
pub struct Storm {
    config: Arc<Config>,
    recorder: Arc<Recorder>,
    stop: watch::Sender<bool>,
    clients: JoinSet<Kind>,
}

/// One thing that the driver did to the server, by [`Storm::mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

/// How far a storm is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Since the start.
    pub elapsed: Duration,
    /// Requests begun.
    pub begun: u64,
    /// Complete, correct answers.
    pub ok: u64,
    /// Requests lost.
    pub lost: u64,
    /// Answers with `connection: close`.
    pub told: u64,
    /// Connections that the server had closed at the last look.
    pub found_closed: u64,
    /// The newest generation that answered.
    pub generation: Option<u64>,
}

impl Storm {
    /// Starts the clients, on the current tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(config: Config) -> Self {
        let config = Arc::new(config);
        let recorder = Arc::new(Recorder::new());
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for kind in Kind::ALL {
            for _ in 0..config.clients.of(kind) {
                let (config, recorder) = (Arc::clone(&config), Arc::clone(&recorder));
                let client = Client::new(kind, config, recorder, stopped.clone());
                clients.spawn(async move {
                    client.run().await;
                    kind
                });
            }
        }
        Self {
            config,
            recorder,
            stop,
            clients,
        }
    }

    /// Notes that the server is being replaced now, by generation `expected`.
    pub fn mark(&self, expected: u64) -> Mark {
        let mut stats = self.recorder.stats();
        Mark(stats.timeline.mark(Instant::now(), expected))
    }

    /// Notes that the process that was replaced at `mark` is gone now.
    pub fn gone(&self, mark: Mark) {
        self.gone_at(mark, Instant::now());
    }

    /// The same for an instant in the past.
    pub fn gone_at(&self, mark: Mark, at: Instant) {
        self.recorder.stats().timeline.gone(at, mark.0);
    }

    /// The counts so far. Cheap.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let stats = self.recorder.stats();
        let sum = |count: fn(&super::stats::PerKind) -> u64| stats.kinds.iter().map(count).sum();
        Snapshot {
            elapsed: stats.timeline.start.elapsed(),
            begun: self.recorder.begun(),
            ok: sum(|kind| kind.ok),
            lost: sum(|kind| kind.lost.iter().sum()),
            told: sum(|kind| kind.told),
            found_closed: sum(|kind| kind.found_closed),
            generation: stats.timeline.generations.keys().next_back().copied(),
        }
    }

    /// What came of it so far.
    #[must_use]
    pub fn so_far(&self) -> Report {
        let stats = self.recorder.stats();
        Report::new(&stats, stats.timeline.start.elapsed())
    }

    /// How long correct answers took since the last time, of those [kinds](Kind::is_prompt) that are
    /// answered at once.
    #[must_use]
    pub fn recent(&self) -> Quantiles {
        self.recorder.stats().recent.take()
    }

    /// Lets each client finish the request under way, and says what came of all of them.
    ///
    /// Takes no longer than the longest time limit of a request and two seconds. What is not
    /// finished then is lost, as [`Failure::Timeout`].
    pub async fn stop(mut self) -> Report {
        self.stop.send_replace(true);
        let elapsed = {
            let timeline = &mut self.recorder.stats().timeline;
            timeline.finish(Instant::now());
            timeline.start.elapsed()
        };
        let limits = Kind::ALL.map(|kind| self.config.time_limit(kind));
        let longest = limits.into_iter().max().unwrap_or_default();
        let end = Instant::now() + longest + STOP_GRACE;
        let mut left = self.config.clients;
        loop {
            match timeout_at(end, self.clients.join_next()).await {
                Ok(Some(Ok(kind))) => left.leave(kind),
                // A panic is a fault of the client and must not pass for a success.
                Ok(Some(Err(error))) => {
                    let loss = Loss::new(Failure::BadBody, format!("a client failed: {error}"));
                    self.recorder.lost(Kind::Keepalive, loss);
                }
                Ok(None) => break,
                Err(_) => {
                    for kind in Kind::ALL {
                        for _ in 0..left.of(kind) {
                            let loss = Loss::new(Failure::Timeout, "under way after the stop");
                            self.recorder.lost(kind, loss);
                        }
                    }
                    break;
                }
            }
        }
        Report::new(&self.recorder.stats(), elapsed)
    }
}
