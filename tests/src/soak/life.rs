//! One life of a service under its load, from the start to the end of its last generation.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::{
    event::Event,
    journal::Journal,
    load::{Counts, Load},
    record::{Happened, Kept, Sampled},
    row::Row,
    service::{Cost, Service},
};
use crate::harness::{Belongings, proc};

/// How often a service is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a generation has served when its memory is noted.
const AT_REST: Duration = Duration::from_secs(1);

/// How often it is measured how late a client is, and how late it may be where a connection is closed
/// some seconds after its client was told.
const TICK: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_millis(500);

/// A service and its clients.
#[derive(Debug)]
pub(super) struct Life {
    service: Service,
    load: Load,
    /// What had come of all requests when they were last judged.
    judged: Mutex<Counts>,
    /// How many milliseconds a client came too late since then, at most.
    late: AtomicU64,
}

/// Who writes down what happens to a server.
#[derive(Clone, Debug)]
pub(super) struct Scribe {
    pub(super) journal: Arc<Journal>,
    pub(super) kept: Kept,
    pub(super) name: &'static str,
}

impl Scribe {
    pub(super) fn line(&self, text: &str) {
        self.journal.line(self.name, text);
    }

    fn adds(&self, before: &Counts, now: &Counts) {
        let mut record = self.kept.lock();
        record.answered += now.answered.saturating_sub(before.answered);
        record.lost += now.lost.saturating_sub(before.lost);
    }
}

impl Life {
    pub(super) async fn start(
        row: Row,
        program: PathBuf,
        keep_socket: bool,
        rate: f64,
    ) -> anyhow::Result<Self> {
        let service = Service::start(row, program, keep_socket).await?;
        let load = Load::start(&row, &service.target()?, rate)?;
        let judged = Mutex::default();
        Ok(Self {
            service,
            load,
            judged,
            late: AtomicU64::new(0),
        })
    }

    /// Lets it happen, until it is time.
    pub(super) async fn run(
        &self,
        rng: &mut Rng,
        every: Duration,
        until: Instant,
        scribe: &Scribe,
    ) -> anyhow::Result<()> {
        tokio::select! {
            ended = self.events(rng, every, until, scribe) => ended,
            never = self.looks(scribe) => never,
            never = self.listens() => never,
        }
    }

    async fn events(
        &self,
        rng: &mut Rng,
        every: Duration,
        until: Instant,
        scribe: &Scribe,
    ) -> anyhow::Result<()> {
        self.load.goes_on(self.service.serving().pid()).await?;
        self.judge(Cost::Nothing, scribe)?;
        loop {
            let pause = every.mul_f64(0.5 + rng.f64());
            // Drawn in any case, so that the time decides how many there are and never which.
            let drawn = Event::draw(rng, &self.service.row, self.service.socket_is_kept());
            let next = Instant::now() + pause;
            if next >= until {
                sleep_until(until).await;
                return Ok(());
            }
            sleep_until(next).await;
            let event = match self.service.is_first() {
                true => Event::Upgrade,
                false => drawn,
            };
            let at = scribe.journal.now();
            scribe.line(&event.to_string());
            let happened = self.happens(event, scribe).await;
            let lost = happened.with_context(|| event.to_string())?;
            let took = scribe.journal.now() - at;
            scribe.line(&format!("whole again after {took:.3?}, {lost} lost inside"));
            scribe.kept.lock().events.push(Happened {
                at,
                took,
                sort: event.sort(),
                what: event.to_string(),
                lost,
            });
        }
    }

    /// Returns what was lost.
    async fn happens(&self, event: Event, scribe: &Scribe) -> anyhow::Result<u64> {
        let generations = self.service.server().generations().len();
        let cost = self.service.suffer(event).await?;
        self.service.is_quiet().await?;
        self.load.goes_on(self.service.serving().pid()).await?;
        self.service.has_no_more(self.load.at_once()).await?;
        let lost = self.judge(cost, scribe)?;
        let new = match event {
            Event::Restart => 1,
            _ => self.service.server().generations().len() - generations,
        };
        scribe.kept.lock().generations += new as u64;
        if matches!(event, Event::Upgrade) {
            sleep(AT_REST).await;
            let memory = proc::anonymous_kib(self.service.serving().pid())?;
            scribe.kept.lock().memory_at_rest_kib.push(memory);
        }
        Ok(lost)
    }

    /// How late clients come, since others want the processors, too.
    async fn listens(&self) -> anyhow::Result<()> {
        loop {
            let began = Instant::now();
            sleep(TICK).await;
            let late = began.elapsed().saturating_sub(TICK).as_millis();
            self.late.fetch_max(late as u64, Relaxed);
        }
    }

    /// No more was lost since the last time than it may have cost. Returns how much was.
    fn judge(&self, cost: Cost, scribe: &Scribe) -> anyhow::Result<u64> {
        let now = self.load.counts();
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *judged, now.clone());
        scribe.adds(&before, &now);
        let late = Duration::from_millis(self.late.swap(0, Relaxed));
        let lost = now.lost - before.lost;
        let cost = match cost {
            Cost::Nothing if self.service.row.announces() && late > LATE && lost > 0 => {
                scribe.line(&format!("{lost} lost, while clients came {late:.1?} late"));
                scribe.kept.lock().lost_late += lost;
                Cost::Inside
            }
            cost => cost,
        };
        judge(&before, &now, cost, self.load.at_once())?;
        Ok(lost)
    }

    async fn looks(&self, scribe: &Scribe) -> anyhow::Result<()> {
        let mut look = interval(LOOK);
        look.tick().await;
        loop {
            look.tick().await;
            let pid = self.service.serving().pid();
            let latency = self.load.recent();
            // It may have been killed.
            let (Ok(memory_kib), Ok(has)) = (proc::anonymous_kib(pid), Belongings::of(pid)) else {
                continue;
            };
            scribe.kept.lock().samples.push(Sampled {
                at: scribe.journal.now(),
                latency,
                memory_kib,
                descriptors: has.open(),
            });
        }
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.service.log()
    }

    /// Ends the load, and then the service. The log is of both.
    pub(super) async fn end(self, scribe: &Scribe) -> (Vec<String>, anyhow::Result<()>) {
        let Self {
            service,
            load,
            judged,
            ..
        } = self;
        let before = judged.into_inner().unwrap_or_else(PoisonError::into_inner);
        let at_once = load.at_once();
        let ended = async {
            let counts = load.stop().await?;
            scribe.adds(&before, &counts);
            judge(&before, &counts, Cost::Nothing, at_once)?;
            service.terminate().await
        };
        let ended = ended.await.context("the end of a life");
        (service.log(), ended)
    }
}

fn judge(before: &Counts, now: &Counts, cost: Cost, at_once: u64) -> anyhow::Result<()> {
    let lost = now.lost.saturating_sub(before.lost);
    let most = match cost {
        Cost::Nothing => 0,
        Cost::Inside => at_once,
    };
    let said = || {
        let new = now.said.len().saturating_sub(lost.min(20) as usize);
        now.said[new..].join("\n  ")
    };
    ensure!(
        lost <= most,
        "{lost} requests lost where at most {most} are to be:\n  {}",
        said()
    );
    ensure!(
        now.wrong <= before.wrong,
        "refused, or answered wrongly, which nothing excuses:\n  {}",
        said()
    );
    Ok(())
}
