//! A generation's status as metrics, for whichever recorder is installed.
//!
//! | name | kind | |
//! |---|---|---|
//! | `handover_generation` | gauge | how many generations were before this one |
//! | `handover_standing` | gauge | 1 with the label `standing` that applies, 0 with all others |
//! | `handover_ready` | gauge | 1 while `/readyz` says 200 |
//! | `handover_holders` | gauge | what holds a drain open, or would, by `kind` |
//! | `handover_guards` | gauge | the same and all that has no name |
//! | `handover_longest_seconds` | gauge | the age of the oldest holder that is not idle |
//! | `handover_drain_remaining_seconds` | gauge | until the deadline; 0 while there is no drain |
//! | `handover_older_generations` | gauge | generations before this one that still drain |
//! | `handover_upgrades_total` | counter | upgrades of the service, by `outcome`: `served`, `failed` |
//!
//! Counters are of the service and not of the process: a generation goes on where the one before it
//! was. Nothing is counted for them on the way of a request; whoever asks has them looked up.

use handover::{
    Generation, Kind,
    health::Probe,
    status::{Standing, Status},
};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// Tells the recorder what each metric is. Once.
///
/// # Examples
///
/// ```
/// // Once the recorder of the program's choice is installed, which then knows units and help texts.
/// handover_admin::metrics::describe();
/// ```
pub fn describe() {
    let seconds = Unit::Seconds;
    describe_gauge!("handover_generation", "generations before this one");
    describe_gauge!("handover_standing", "1 where the service stands");
    describe_gauge!("handover_ready", "1 while the service takes new work");
    describe_gauge!("handover_holders", "what holds a drain open, or would");
    describe_gauge!("handover_guards", "guards in all");
    describe_gauge!(
        "handover_longest_seconds",
        seconds,
        "age of the oldest busy holder"
    );
    describe_gauge!(
        "handover_drain_remaining_seconds",
        seconds,
        "until the deadline"
    );
    describe_gauge!("handover_older_generations", "older generations that drain");
    describe_counter!("handover_upgrades_total", "upgrades of the service");
}

/// Sets all metrics to what is so now. Called before each answer to `/metrics`; a program whose
/// recorder pushes calls it from time to time.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover::Error> {
/// use std::time::Duration;
///
/// use handover::Generation;
/// use handover_admin::metrics;
///
/// let generation = Generation::start()?;
/// metrics::describe();
/// // For a recorder that pushes.
/// let pushed = tokio::spawn(async move {
///     loop {
///         metrics::record(&generation);
///         tokio::time::sleep(Duration::from_secs(15)).await;
///     }
/// });
/// # pushed.abort();
/// # Ok(())
/// # }
/// ```
pub fn record(generation: &Generation) {
    let status = generation.status();
    let ready = generation.health().check(Probe::Ready).is_ok();
    gauge!("handover_ready").set(f64::from(u8::from(ready)));
    set(&status);
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 connections")]
fn set(status: &Status) {
    gauge!("handover_generation").set(status.generation as f64);
    for standing in Standing::all() {
        let applies = u8::from(standing == status.standing);
        gauge!("handover_standing", "standing" => standing.name()).set(f64::from(applies));
    }
    for kind in Kind::all() {
        let held = status.held.kinds.iter().find(|held| held.kind == kind);
        let count = held.map_or(0, |held| held.count);
        gauge!("handover_holders", "kind" => kind.name()).set(count as f64);
    }
    gauge!("handover_guards").set(status.held.guards as f64);
    gauge!("handover_longest_seconds").set(status.held.longest.as_secs_f64());
    let remaining = status.remaining.unwrap_or_default();
    gauge!("handover_drain_remaining_seconds").set(remaining.as_secs_f64());
    gauge!("handover_older_generations").set(status.older.len() as f64);
    // Each generation but the first was brought by an upgrade.
    counter!("handover_upgrades_total", "outcome" => "served").absolute(status.generation);
    counter!("handover_upgrades_total", "outcome" => "failed").absolute(status.failed_upgrades);
}
