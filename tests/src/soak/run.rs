//! The soak itself.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    journal::Journal,
    life::{Life, Scribe},
    options::Options,
    picture, progress,
    record::Kept,
    report::{Failed, Report},
    row::{ROWS, Row},
    servers,
};

/// What the last events and the last drain may take beyond the time that was asked for.
const GRACE: Duration = Duration::from_secs(240);
/// Lives are no longer, so that both sorts come often; and no shorter.
const LIVES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(240));
/// How much more memory is no growth: what lies elsewhere in each process.
const GROWTH: (f64, u64) = (1.10, 256);

/// Runs a soak, and writes its log, report and picture.
///
/// # Errors
///
/// If it could not be run. What it found is in the report.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let rows = rows(&options.only)?;
    let programs = servers::directory(options.servers.as_deref(), &rows)?;
    let out = &options.out;
    fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let length = Duration::try_from_secs_f64(options.minutes * 60.0).context("--minutes")?;
    let journal = Arc::new(Journal::create(&out.join("events.log"))?);
    journal.line("soak", &format!("seed {seed}, {length:?}"));
    let all: Vec<(Row, Kept)> = rows.iter().map(|row| (*row, Kept::default())).collect();
    let mut servers = JoinSet::new();
    for (row, kept) in &all {
        let course = Course {
            row: *row,
            program: programs.join(row.program),
            options: options.clone(),
            seed,
            end: Instant::now() + length,
            scribe: Scribe {
                journal: journal.clone(),
                kept: kept.clone(),
                name: row.name,
            },
        };
        servers.spawn(course.run());
    }
    let first_failure = async {
        while let Some(ended) = servers.join_next().await {
            match ended {
                Ok(ended) => ended?,
                Err(error) => return Err(Failed::of("soak", &journal, error.to_string(), &[])),
            }
        }
        Ok(())
    };
    let (mut interrupt, mut term) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let ended = tokio::select! {
        ended = timeout(length + GRACE, first_failure) => match ended {
            Ok(ended) => ended,
            Err(_) => Err(Failed::of("soak", &journal, format!("not at its end {GRACE:?} after its time"), &[])),
        },
        _ = interrupt.recv() => Err(Failed::of("soak", &journal, "interrupted".into(), &[])),
        _ = term.recv() => Err(Failed::of("soak", &journal, "told to end".into(), &[])),
        () = progress::show(&all, length) => Ok(()),
    };
    // All processes go with this.
    servers.shutdown().await;
    let failed = ended.and_then(|()| has_not_grown(&all, &journal)).err();
    if let Some(failed) = &failed {
        journal.line(failed.server, &format!("FAILED: {}", failed.what));
    }
    let report = Report::new(seed, journal.now(), failed, &all);
    let json = serde_json::to_vec_pretty(&report)?;
    fs::write(out.join("report.json"), json).context("write the report")?;
    picture::draw(&report, &out.join("soak.svg")).context("draw the picture")?;
    Ok(report)
}

fn rows(only: &[String]) -> anyhow::Result<Vec<Row>> {
    if only.is_empty() {
        return Ok(ROWS.into_iter().filter(|row| !row.is_bare).collect());
    }
    let row = |name: &String| {
        let row = ROWS.into_iter().find(|row| row.name == name);
        let names = ROWS.map(|row| row.name).join(", ");
        row.with_context(|| format!("there is no server {name}; there are {names}"))
    };
    only.iter().map(row).collect()
}

/// What one server is put through.
struct Course {
    row: Row,
    program: PathBuf,
    options: Options,
    seed: u64,
    end: Instant,
    scribe: Scribe,
}

impl Course {
    async fn run(self) -> Result<(), Failed> {
        // One order for each server, whichever others there are.
        let name = self.row.name.bytes().fold(0_u64, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(byte.into())
        });
        let mut rng = Rng::with_seed(self.seed ^ name);
        let mut keep_socket = rng.bool();
        while Instant::now() < self.end {
            self.life(&mut rng, keep_socket).await?;
            self.scribe.kept.lock().lives += 1;
            keep_socket = !keep_socket;
        }
        Ok(())
    }

    async fn life(&self, rng: &mut Rng, keep_socket: bool) -> Result<(), Failed> {
        let Scribe { journal, name, .. } = &self.scribe;
        let failed = |error: anyhow::Error, log: &[String]| {
            Failed::of(name, journal, format!("{error:#}"), log)
        };
        let length = Duration::from_secs_f64(self.options.minutes * 60.0) / 4;
        let until = self
            .end
            .min(Instant::now() + length.clamp(LIVES.0, LIVES.1));
        self.scribe.line(match keep_socket {
            true => "start, on a socket that is kept",
            false => "start",
        });
        let (program, rate) = (self.program.clone(), self.options.rate);
        let life = Life::start(self.row, program, keep_socket, rate).await;
        let life = life.map_err(|error| failed(error, &[]))?;
        self.scribe.kept.lock().generations += 1;
        let every = Duration::try_from_secs_f64(self.options.every)
            .map_err(|error| failed(error.into(), &[]))?;
        let lived = life.run(rng, every, until, &self.scribe).await;
        let (log, ended) = match lived {
            Ok(()) => {
                self.scribe.line("end");
                life.end(&self.scribe).await
            }
            Err(error) => (life.log(), Err(error)),
        };
        let path = self.options.out.join(format!("{name}.log"));
        keep(&path, &log).map_err(|error| failed(error, &log))?;
        ended.map_err(|error| failed(error, &log))
    }
}

fn keep(path: &Path, log: &[String]) -> anyhow::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.with_context(|| format!("open {}", path.display()))?;
    writeln!(file, "---- a life\n{}", log.join("\n"))?;
    Ok(())
}

fn has_not_grown(all: &[(Row, Kept)], journal: &Journal) -> Result<(), Failed> {
    for (row, kept) in all {
        let judged = || {
            let Some((first, last)) = kept.lock().memory_first_and_last() else {
                return Ok(());
            };
            let most = (first as f64 * GROWTH.0) as u64 + GROWTH.1;
            ensure!(
                last <= most,
                "memory has grown: {first} KiB in the first fifth, {last} in the last"
            );
            Ok(())
        };
        if let Err(error) = judged() {
            return Err(Failed::of(row.name, journal, format!("{error:#}"), &[]));
        }
    }
    Ok(())
}
