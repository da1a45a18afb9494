//! What holds of a policy and of a drain that goes by it, whatever times they are given.

mod times;

use std::time::Duration;

use handover::{Graceful, Phase, Policy, Reason};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use self::times::time;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A runtime's clock counts milliseconds, and rounds up.
const TICK: Duration = Duration::from_millis(2);

/// Times as people choose them.
fn usual() -> impl Strategy<Value = Duration> {
    (0..90_000u64).prop_map(Duration::from_millis)
}

proptest! {
    /// Fails if the window reaches into the last fifth, is longer than asked for, or is shorter than
    /// both let it be.
    #[test]
    fn the_announce_window_is_as_asked_and_leaves_a_fifth(asked in time(), remaining in time()) {
        let window = Policy::default().with_announce(asked).announce(remaining);
        prop_assert!(window <= asked);
        prop_assert!(window.as_nanos() * 5 <= remaining.as_nanos() * 4);
        let is_full = window == asked.min(YEAR);
        // But for the nanoseconds that a division leaves.
        prop_assert!(is_full || (window.as_nanos() + 4) * 5 > remaining.as_nanos() * 4);
    }

    /// Fails if somebody who has more time, or asks for more, gets less.
    #[test]
    fn the_announce_window_grows_with_what_is_left(
        asked in time(), more_asked in time(), remaining in time(), more in time()
    ) {
        let window = |asked, remaining| Policy::default().with_announce(asked).announce(remaining);
        let (low, high) = (remaining.min(more), remaining.max(more));
        prop_assert!(window(asked, low) <= window(asked, high));
        let (little, much) = (asked.min(more_asked), asked.max(more_asked));
        prop_assert!(window(little, low) <= window(much, low));
    }

    /// Fails if a setting is kept otherwise than it was given, but for what is beyond a year.
    #[test]
    fn a_setting_is_what_was_given_and_at_most_a_year(times in proptest::array::uniform6(time())) {
        let [lame_duck, deadline, upgrade, retry, grace, log] = times;
        let policy = Policy::default()
            .with_lame_duck(lame_duck)
            .with_deadline(deadline)
            .with_upgrade_deadline(upgrade)
            .with_retry(retry)
            .with_cut_grace(grace)
            .with_log_after(log);
        let kept = [
            policy.lame_duck(),
            policy.deadline(false),
            policy.deadline(true),
            policy.retry(),
            policy.cut_grace(),
            policy.log_after(),
        ];
        prop_assert_eq!(kept, times.map(|time| time.min(YEAR)));
    }

    /// Fails if any times, however long or short, make a drain panic, or one with a guard end before
    /// its deadline.
    #[test]
    fn no_times_break_a_drain(times in proptest::array::uniform6(time()), upgrade: bool) {
        let [lame_duck, deadline, announce, spread, grace, log] = times;
        let policy = Policy::default()
            .with_lame_duck(lame_duck)
            .with_deadline(deadline)
            .with_upgrade_deadline(deadline)
            .with_announce(announce)
            .with_close_spread(spread)
            .with_cut_grace(grace)
            .with_log_after(log);
        in_paused_time(async {
            let graceful = Graceful::with_policy(policy);
            let guard = graceful.guard();
            let mut turn = graceful.turn();
            graceful.drain_for(if upgrade { Reason::Upgrade { successor: 7 } } else { Reason::Program });
            let first = tokio::time::timeout(TICK, turn.comes()).await.is_ok();
            let left = graceful.remaining().expect("a drain is under way");
            assert!(left <= deadline.min(YEAR));
            // A deadline that is to come is not there yet.
            assert!(left.is_zero() || graceful.phase() < Phase::Cutting);
            assert!(first || !deadline.is_zero());
            graceful.cut();
            assert!(graceful.phase() >= Phase::Cutting);
            drop(guard);
            drop(graceful.drained().await);
        });
    }

    /// Fails if what is left is ever more than the deadline, grows, or is off by more than the time that
    /// has passed; or if a phase comes before its time, or late.
    #[test]
    fn a_drain_goes_by_its_times(
        lame_duck in usual(),
        deadline in usual(),
        grace in 0..500u64,
        upgrade: bool,
        steps in proptest::collection::vec(1..20_000u64, 1..12)
    ) {
        let grace = Duration::from_millis(grace);
        let policy = Policy::default()
            .with_lame_duck(lame_duck)
            .with_deadline(deadline)
            .with_upgrade_deadline(deadline)
            .with_cut_grace(grace);
        let lame_duck = if upgrade { Duration::ZERO } else { lame_duck };
        let phase_at = |passed: Duration| match passed {
            _ if passed >= deadline + grace => Phase::Drained,
            _ if passed >= deadline => Phase::Cutting,
            _ if passed >= lame_duck => Phase::Draining,
            _ => Phase::LameDuck,
        };
        in_paused_time(async {
            let graceful = Graceful::with_policy(policy);
            assert_eq!(graceful.remaining(), None);
            let _guard = graceful.guard();
            let began = Instant::now();
            graceful.drain_for(if upgrade { Reason::Upgrade { successor: 7 } } else { Reason::Program });
            let mut last = deadline;
            for step in steps {
                sleep(Duration::from_millis(step)).await;
                let passed = began.elapsed();
                let left = graceful.remaining().expect("a drain is under way");
                assert_eq!(left, deadline.saturating_sub(passed));
                assert!(left <= last);
                last = left;
                let (phase, earliest) = (graceful.phase(), phase_at(passed.saturating_sub(2 * TICK)));
                assert!(phase >= earliest, "{phase} after {passed:?}, and not yet {earliest}");
                assert!(phase <= phase_at(passed), "{phase} already after {passed:?}");
            }
        });
    }
}

fn in_paused_time(what: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(what);
}
