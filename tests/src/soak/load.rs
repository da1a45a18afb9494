//! The clients of a server.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tonic::transport::Channel;

use super::{
    row::{Row, Speaks},
    service::settles,
};
use crate::{
    grpc::{Pace, Tonic},
    load::{Clients, Config, Failure, Quantiles, Storm, Target},
    staying::Staying,
};

/// WebSockets, and as many streams of events.
const STAYING: usize = 2;
/// How long the load may take to go on.
const BOUND: Duration = Duration::from_secs(30);

/// Clients that never retry.
#[derive(Debug)]
pub(super) enum Load {
    Http {
        storm: Storm,
        staying: Option<Staying>,
        /// What the staying ones have said so far.
        stayed: Mutex<Stayed>,
    },
    Grpc(Tonic),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Stayed {
    came: u64,
    failures: Vec<String>,
}

/// What has come of all requests so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) answered: u64,
    pub(super) lost: u64,
    /// Of them, those that are never to be, whoever was killed.
    pub(super) wrong: u64,
    /// What was said of the last few.
    pub(super) said: Vec<String>,
}

impl Load {
    /// Starts them, so many requests a second.
    pub(super) fn start(row: &Row, target: &Target, rate: f64) -> anyhow::Result<Self> {
        match row.speaks {
            Speaks::Http => Ok(Self::http(row, target, rate)),
            Speaks::Grpc => Self::grpc(target, rate),
        }
    }

    fn http(row: &Row, target: &Target, rate: f64) -> Self {
        let mut config = Config::new(target.clone()).with_clients(clients());
        let pause = |clients: usize, share: f64| {
            Duration::from_secs_f64(clients as f64 / (rate * share).max(0.1))
        };
        config.keepalive_pause = pause(config.clients.keepalive, 0.4);
        config.fresh_pause = pause(config.clients.fresh, 0.2);
        // Half of the longest pause on average.
        config.idle_max = 2 * pause(config.clients.idle, 0.3);
        config.rtt = Duration::from_millis(1);
        config.upload_len = 50 * 1024;
        config.timeout = BOUND;
        // The bare framework would wait for them for ever.
        let staying =
            (!row.is_bare).then(|| Staying::start(target, STAYING, Duration::from_millis(500)));
        Self::Http {
            storm: Storm::start(config),
            staying,
            stayed: Mutex::default(),
        }
    }

    fn grpc(target: &Target, rate: f64) -> anyhow::Result<Self> {
        let Target::Tcp(address) = target else {
            anyhow::bail!("{target} is no TCP address");
        };
        let mut pace = Pace::default();
        (pace.channels, pace.callers) = (2, 2);
        let callers = (pace.channels * pace.callers) as f64;
        pace.pause = Duration::from_secs_f64(2.0 * callers / rate.max(0.1));
        pace.every = Duration::from_millis(250);
        let endpoint = Channel::from_shared(format!("http://{address}"))?;
        Ok(Self::Grpc(Tonic::start(&endpoint, true, pace)))
    }

    /// How many requests can be under way at a time.
    pub(super) fn at_once(&self) -> u64 {
        match self {
            Self::Http { staying, .. } => {
                let staying = staying.as_ref().map_or(0, |_| 2 * STAYING);
                let clients = clients();
                let kinds = crate::load::Kind::ALL.into_iter();
                (kinds.map(|kind| clients.of(kind)).sum::<usize>() + staying) as u64
            }
            Self::Grpc(_) => 8,
        }
    }

    /// What has come of all requests so far.
    pub(super) fn counts(&self) -> Counts {
        match self {
            Self::Http {
                storm,
                staying,
                stayed,
            } => {
                let report = storm.so_far();
                let mut stayed = stayed.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(staying) = staying {
                    let seen = staying.take();
                    stayed.came += seen.came as u64;
                    stayed.failures.extend(seen.failures);
                }
                let never = [
                    Failure::ConnectRefused,
                    Failure::BadStatus,
                    Failure::BadBody,
                    Failure::Timeout,
                ];
                let mut said: Vec<String> = report
                    .samples
                    .iter()
                    .map(|loss| format!("{} {}: {}", loss.kind, loss.failure, loss.detail))
                    .collect();
                said.extend(stayed.failures.iter().cloned());
                Counts {
                    answered: report.requests() - report.lost() + stayed.came,
                    lost: report.lost() + stayed.failures.len() as u64,
                    wrong: never.map(|failure| report.lost_as(failure)).iter().sum(),
                    said,
                }
            }
            Self::Grpc(tonic) => {
                let outcome = tonic.so_far();
                let lost = outcome.failures.len() as u64;
                let wrong = ["DataLoss", "Refused", "refused", "DeadlineExceeded"];
                let is_wrong = |said: &&String| wrong.iter().any(|wrong| said.contains(wrong));
                Counts {
                    answered: (outcome.calls + outcome.streams).saturating_sub(lost),
                    lost,
                    wrong: outcome.failures.iter().filter(is_wrong).count() as u64,
                    said: outcome.failures,
                }
            }
        }
    }

    /// How long answers took since the last time.
    pub(super) fn recent(&self) -> Quantiles {
        match self {
            Self::Http { storm, .. } => storm.recent(),
            Self::Grpc(tonic) => tonic.recent(),
        }
    }

    /// Waits until they have had answers anew; of gRPC, each from this process.
    pub(super) async fn goes_on(&self, pid: u32) -> anyhow::Result<()> {
        if let Self::Grpc(tonic) = self {
            tonic.arrived(pid).await?;
        }
        let enough = self.counts().answered + self.at_once();
        settles("the load to go on", || {
            (self.counts().answered > enough).then_some(())
        })
        .await
    }

    /// Ends them after what is under way, and says what has come of all.
    pub(super) async fn stop(self) -> anyhow::Result<Counts> {
        let mut counts = self.counts();
        match self {
            Self::Http { storm, staying, .. } => {
                drop(staying);
                let before = storm.so_far();
                let report = storm.stop().await;
                counts.answered += report.requests() - report.lost();
                counts.answered -= before.requests() - before.lost();
                counts.lost += report.lost() - before.lost();
                counts.said.extend(
                    report
                        .samples
                        .iter()
                        .skip(before.samples.len())
                        .map(|loss| format!("{} {}: {}", loss.kind, loss.failure, loss.detail)),
                );
            }
            Self::Grpc(tonic) => {
                let outcome = tonic.stop().await.context("stop the callers")?;
                counts.lost = outcome.failures.len() as u64;
                counts.answered = (outcome.calls + outcome.streams) - counts.lost;
                counts.said = outcome.failures;
            }
        }
        Ok(counts)
    }
}

fn clients() -> Clients {
    let mut clients = Clients::none();
    (clients.keepalive, clients.idle, clients.fresh) = (2, 6, 1);
    (clients.dribble, clients.slow) = (1, 1);
    (clients.stream, clients.upload) = (1, 1);
    clients
}
