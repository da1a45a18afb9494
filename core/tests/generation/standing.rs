//! Where a generation stands, for those who ask.

use std::time::Duration;

use handover::{health::Probe, status::Standing};

use super::builder;

#[tokio::test]
async fn a_generation_tells_where_it_stands_from_its_start_to_its_end() {
    let generation = builder().release("2.4.0").start().unwrap();
    let health = generation.health();
    let graceful = generation.graceful();
    let status = generation.status();
    assert_eq!(
        (status.standing, status.generation),
        (Standing::Starting, 0)
    );
    assert_eq!(status.pid, std::process::id());
    assert_eq!(status.release.as_deref(), Some("2.4.0"));
    assert!(!generation.is_check() && generation.pid_file().is_none());
    assert!(health.check(Probe::Startup).is_err());
    assert!(format!("{generation:?}").contains("ready: false"));

    // The longest that is passed on; whoever reads it has one line.
    generation.progress("ö".repeat(2000));
    generation.progress("warming the cache: 90 %");
    let said = generation.status().progress;
    assert_eq!(said.as_deref(), Some("warming the cache: 90 %"));

    generation.ready().await.unwrap();
    // Of one that has started there is no progress.
    generation.progress("too late");
    let status = generation.status();
    assert_eq!(
        (status.standing, status.progress),
        (Standing::Running, None)
    );
    assert!(health.check(Probe::Startup).is_ok());
    assert!(health.check(Probe::Ready).is_ok());
    let text = format!("{generation:?}");
    assert!(
        text.contains("ready: true") && text.contains("number: 0"),
        "{text}"
    );

    let job = graceful.hold("index").unwrap();
    graceful.drain();
    let status = generation.status();
    assert_eq!(status.standing, Standing::Draining);
    assert_eq!(status.held.tasks, 1);
    assert!(status.remaining.is_some_and(|left| left > Duration::ZERO));
    assert!(health.check(Probe::Ready).is_err());
    assert!(health.check(Probe::Live).is_ok());
    let mut finished = Box::pin(generation.finished());
    let early = tokio::time::timeout(Duration::from_millis(50), &mut finished).await;
    assert!(early.is_err(), "it has a job");
    drop(job);
    finished.await;
    assert_eq!(generation.status().standing, Standing::Drained);
}

/// A first generation was left nothing, and what it keeps is for others.
#[tokio::test]
async fn a_first_generation_finds_no_state() {
    let generation = builder().start().unwrap();
    generation.keep_state("story", 1, || Ok(b"once".to_vec()));
    generation.keep_state_stream("tale", 1, |out| out.write_all(b"upon"));
    assert!(generation.take_state("story").is_none());
    assert!(generation.take_state_stream("tale").is_none());
    assert!(!generation.is_successor());
}
