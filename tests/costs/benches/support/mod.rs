//! Times rows next to each other, and prints what one is to the other.
#![allow(dead_code, reason = "each benchmark uses a part")]

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, SamplingMode};
use handover_costs::{
    Row, Run,
    table::{Table, median},
};
use rustix::time::{ClockId, clock_gettime};

/// Many short samples: a busy machine spoils some, and the median does not mind.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args()
}

/// Times rows on so many threads at once, by the processor time of a thread: that of other programs
/// does not count.
pub(crate) fn compare(criterion: &mut Criterion, title: &str, threads: usize, rows: &[Row]) {
    let mut group = criterion.benchmark_group(title);
    let mut medians = Vec::new();
    for row in rows {
        let mut runs = row.runs(threads);
        let mut samples = Vec::new();
        let id = BenchmarkId::new(row.name(), threads);
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|times| {
                let took = at_once(&mut runs, times);
                samples.push(took.as_secs_f64() * 1e9 / times as f64);
                took
            });
        });
        medians.push((row.name(), median(samples)));
    }
    group.finish();
    publish(&format!("{title}, threads: {threads}"), "ns", &medians);
}

/// Times something that is set up anew each time, and says itself how long it took.
pub(crate) fn compare_once(
    criterion: &mut Criterion,
    title: &str,
    rows: &[(&'static str, &dyn Fn() -> Duration)],
) {
    let mut group = criterion.benchmark_group(title);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let mut medians = Vec::new();
    for (name, run) in rows {
        let mut samples = Vec::new();
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|times| {
                (0..times)
                    .map(|_| {
                        let took = run();
                        samples.push(took.as_secs_f64() * 1e3);
                        took
                    })
                    .sum()
            });
        });
        medians.push((*name, median(samples)));
    }
    group.finish();
    publish(title, "ms", &medians);
}

/// The same a few times, without criterion, which wants ten at least.
pub(crate) fn compare_few(
    title: &str,
    times: usize,
    rows: &[(&'static str, &dyn Fn() -> Duration)],
) {
    // By turns, so that what else the machine does meanwhile is shared among them.
    let mut samples = vec![Vec::new(); rows.len()];
    for _ in 0..times {
        for ((_, run), samples) in rows.iter().zip(&mut samples) {
            samples.push(run().as_secs_f64() * 1e3);
        }
    }
    let names = rows.iter().map(|(name, _)| *name);
    let medians: Vec<_> = names.zip(samples.into_iter().map(median)).collect();
    publish(title, "ms", &medians);
}

fn at_once(runs: &mut [Run], times: u64) -> Duration {
    let barrier = Barrier::new(runs.len());
    if let [run] = runs {
        return timed(run, times);
    }
    thread::scope(|scope| {
        let threads: Vec<_> = runs
            .iter_mut()
            .map(|run| {
                scope.spawn(|| {
                    barrier.wait();
                    timed(run, times)
                })
            })
            .collect();
        let count = threads.len() as u32;
        let all = threads.into_iter().map(|t| t.join().expect("a run ends"));
        all.sum::<Duration>() / count
    })
}

fn timed(run: &mut Run, times: u64) -> Duration {
    let before = processor_time();
    run(times);
    processor_time() - before
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How long a future takes.
pub(crate) async fn clocked(future: impl Future<Output = ()>) -> Duration {
    let began = Instant::now();
    future.await;
    began.elapsed()
}

/// A table of what was measured; a row that was filtered out is not in it.
pub(crate) fn publish(title: &str, unit: &str, rows: &[(&str, Option<f64>)]) {
    let mut table = Table::new(title, unit);
    for (name, figure) in rows {
        if let Some(figure) = figure {
            table.push(*name, *figure);
        }
    }
    table.publish().expect("the table can be kept");
}
