//! What a process is that had no predecessor.

use handover::Generation;

#[tokio::test]
async fn a_first_generation_has_no_predecessor_and_is_ready_before_it_upgrades() {
    let generation = Generation::builder().no_signals().start().unwrap();
    assert_eq!(generation.number(), 0);
    assert!(!generation.is_successor());
    let err = generation.upgrade().await.unwrap_err();
    assert!(err.is_not_ready(), "{err}");
    // A second call does nothing.
    generation.ready().await.unwrap();
    generation.ready().await.unwrap();
    generation.graceful().drain();
    generation.graceful().drained().await;
    generation.finished().await;
    let err = generation.upgrade().await.unwrap_err();
    assert!(err.is_draining(), "{err}");
}
