//! Callers of the gRPC reference servers: tonic's own client, with our layer or without.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use handover_tonic::client::RetryLayer;
use http::{Request, Response};
use serde::Deserialize;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Status, body::Body, transport::Endpoint};
use tower::{Layer, ServiceExt, util::BoxCloneService};

use crate::{
    harness::seen,
    load::{Latency, Quantiles},
    reference::pb::{TicksRequest, UnaryRequest, echo_client::EchoClient},
};

/// For what has no time of its own: long, since machines are busy.
const BOUND: Duration = Duration::from_secs(20);
/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(10);

/// What became of all calls.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
pub struct Outcome {
    /// Unary calls.
    pub calls: u64,
    /// Streams that were opened.
    pub streams: u64,
    /// Streams that ended because their server drained, and were opened again.
    pub resumed: u64,
    /// What was not OK.
    pub failures: Vec<String>,
}

/// How many callers, and how fast.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Pace {
    /// Connections.
    pub channels: usize,
    /// Callers on each, of unary calls, and as many of streams.
    pub callers: usize,
    /// The longest pause between two calls of a caller.
    pub pause: Duration,
    /// The time between two messages of a stream.
    pub every: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            channels: 4,
            callers: 5,
            pause: Duration::from_millis(20),
            every: Duration::from_millis(10),
        }
    }
}

/// Callers with tonic's client. Dropping them ends all calls at once; [`stop`](Self::stop) ends them
/// well.
#[derive(Debug)]
pub struct Tonic {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    pace: Pace,
    stopped: AtomicBool,
    /// Who answered each caller last.
    latest: Mutex<Vec<u32>>,
    outcome: Mutex<Outcome>,
    /// Of unary calls, without what the server was asked to wait.
    latency: Mutex<Latency>,
}

type Service = BoxCloneService<Request<Body>, Response<Body>, Status>;

impl Tonic {
    /// Starts them.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(endpoint: &Endpoint, with_layer: bool, pace: Pace) -> Self {
        let shared = Arc::new(Shared {
            pace,
            stopped: AtomicBool::new(false),
            latest: Mutex::new(vec![0; 2 * pace.channels * pace.callers]),
            outcome: Mutex::default(),
            latency: Mutex::default(),
        });
        let mut callers = JoinSet::new();
        for _ in 0..pace.channels {
            let channel = endpoint.connect_lazy();
            let service: Service = match with_layer {
                true => RetryLayer::new().layer(channel).boxed_clone(),
                false => channel
                    .map_err(|error| Status::from_error(error.into()))
                    .boxed_clone(),
            };
            let client = EchoClient::new(service);
            for _ in 0..pace.callers {
                let number = callers.len();
                callers.spawn(call(client.clone(), number, shared.clone()));
                callers.spawn(follow(client.clone(), number + 1, shared.clone()));
            }
        }
        Self { shared, callers }
    }

    /// Waits until this process has answered each of them.
    ///
    /// # Errors
    ///
    /// If it has not after a long time.
    pub async fn arrived(&self, pid: u32) -> anyhow::Result<()> {
        seen("all callers to arrive", BOUND, EVERY, || {
            let latest = held(&self.shared.latest);
            latest.iter().all(|latest| *latest == pid).then_some(())
        })
        .await
    }

    /// What became of all calls so far.
    #[must_use]
    pub fn so_far(&self) -> Outcome {
        held(&self.shared.outcome).clone()
    }

    /// How long unary calls took since the last time, beyond what they asked for.
    #[must_use]
    pub fn recent(&self) -> Quantiles {
        held(&self.shared.latency).take()
    }

    /// Ends them after the call under way, and says what became of all.
    ///
    /// # Errors
    ///
    /// If one does not end, or has panicked.
    pub async fn stop(mut self) -> anyhow::Result<Outcome> {
        self.shared.stopped.store(true, Relaxed);
        while let Some(caller) = timeout(BOUND, self.callers.join_next()).await? {
            caller?;
        }
        Ok(self.so_far())
    }
}

/// What is in there, whole even if one has panicked who had it.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    fn answered(&self, number: usize, pid: u32) {
        held(&self.latest)[number] = pid;
    }

    async fn failed(&self, what: &str, status: Status) {
        let failure = format!("{what}: {:?}: {}", status.code(), status.message());
        held(&self.outcome).failures.push(failure);
        sleep(Duration::from_millis(10)).await;
    }
}

async fn call(mut client: EchoClient<Service>, number: usize, shared: Arc<Shared>) {
    let pause = shared.pace.pause.as_micros() as u64;
    while !shared.is_stopped() {
        held(&shared.outcome).calls += 1;
        let delay_ms = fastrand::choice([0, 0, 5, 20]).unwrap_or(0);
        let request = UnaryRequest {
            message: number.to_string(),
            delay_ms,
        };
        let began = Instant::now();
        match client.unary(request).await {
            Ok(reply) => {
                let asked = Duration::from_millis(delay_ms.into());
                held(&shared.latency).record(began.elapsed().saturating_sub(asked));
                shared.answered(number, reply.get_ref().pid);
            }
            Err(status) => shared.failed("unary", status).await,
        }
        sleep(Duration::from_micros(fastrand::u64(0..pause.max(1)))).await;
    }
}

async fn follow(mut client: EchoClient<Service>, number: usize, shared: Arc<Shared>) {
    while !shared.is_stopped() {
        held(&shared.outcome).streams += 1;
        let request = TicksRequest {
            count: fastrand::choice([0, 0, 40]).unwrap_or(0),
            interval_ms: shared.pace.every.as_millis() as u32,
        };
        let mut ticks = match client.ticks(request).await {
            Ok(ticks) => ticks.into_inner(),
            Err(status) => {
                shared.failed("stream", status).await;
                continue;
            }
        };
        let mut seen = 0;
        let end = loop {
            match ticks.message().await {
                Ok(Some(tick)) if tick.index == seen => {
                    seen += 1;
                    shared.answered(number, tick.pid);
                    if shared.is_stopped() {
                        return;
                    }
                }
                Ok(Some(tick)) => break Status::data_loss(format!("{tick:?} for {seen}")),
                Ok(None) if seen == request.count => break Status::ok(""),
                Ok(None) => break Status::data_loss(format!("OK after {seen}")),
                Err(status) => break status,
            }
        };
        match (end.code(), end.message()) {
            (Code::Ok, _) => {}
            (Code::Unavailable, "server draining") => held(&shared.outcome).resumed += 1,
            _ => shared.failed("stream", end).await,
        }
    }
}
