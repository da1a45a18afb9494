//! What holds of a spread, however many clients there are and however little time.

use proptest::prelude::*;

use self::times::time;
use super::*;

#[path = "../../tests/times/mod.rs"]
mod times;

const SECOND: Duration = Duration::from_secs(1);
const NS: Duration = Duration::from_nanos(1);

/// The most that lie within one second, wherever it begins.
fn peak(times: &[Instant]) -> usize {
    let (mut first, mut peak) = (0, 0);
    for (at, time) in times.iter().enumerate() {
        while *time - times[first] >= SECOND {
            first += 1;
        }
        peak = peak.max(at + 1 - first);
    }
    peak
}

proptest! {
    /// Fails if a window is longer than asked for, than the clients need, or than nine tenths of what is
    /// left; or if it is shorter than all three.
    #[test]
    fn a_window_is_the_shortest_of_three(
        most in time(), clients in 0..100_000_000u32, remaining in time()
    ) {
        let got = window(most, clients as usize, remaining);
        let needed = Duration::from_millis(10) * clients;
        // A number of clients is divided as a fraction.
        prop_assert!(got <= most && got <= needed + NS);
        prop_assert!(got.as_nanos() * 10 <= remaining.as_nanos() * 9);
        let rest = (got.as_nanos() + 9) * 10 > remaining.as_nanos() * 9;
        prop_assert!(got == most || got.abs_diff(needed) <= NS || rest, "{got:?} of {most:?}");
    }

    /// Fails if clients are told of a drain beyond the first half of the announce window: the second
    /// is theirs.
    #[test]
    fn connections_are_told_in_half_the_announce_window(
        asked in time(), clients in 0..3_000_000usize, remaining in time()
    ) {
        let policy = Policy::default().with_announce(asked);
        let got = announce(&policy, clients, remaining);
        prop_assert!(got <= policy.announce(remaining) / 2);
        prop_assert!(clients > UNSPREAD as usize || got.is_zero());
    }

    /// Fails if more than their share is told in any second, somebody out of order, before the
    /// beginning or after the end.
    #[test]
    fn nobody_is_told_out_of_turn(
        most in 0..30_000u64, clients in 1..20_000usize, remaining in 1..60_000u64
    ) {
        let (most, remaining) = (Duration::from_millis(most), Duration::from_millis(remaining));
        let window = window(most, clients, remaining);
        let start = Instant::now();
        let slot = slot(window, clients);
        let mut schedule = Schedule::new(start, slot, usable(remaining));
        let times: Vec<_> = (0..clients).map(|_| schedule.next()).collect();
        prop_assert!(times.is_sorted());
        prop_assert!(times[0] >= start);
        let last = times[clients - 1] - start;
        // A slot has whole nanoseconds, and so may be half of one too long.
        prop_assert!(last <= window + Duration::from_nanos(clients as u64));
        prop_assert!(last <= usable(remaining));
        if slot > Duration::ZERO {
            let share = (SECOND.as_secs_f64() / slot.as_secs_f64()).ceil() as usize;
            prop_assert!(peak(&times) <= share + 1, "{} and not {share}", peak(&times));
        }
    }

    /// Fails if those that come late are told in their past, closer than their share lets them, or later
    /// than the end.
    #[test]
    fn whoever_comes_late_is_told_in_turn(
        slot in 1..50_000_000u64,
        limit in 1..30_000u64,
        there in 0..500usize,
        steps in proptest::collection::vec((0..2_000u64, 1..50usize), 1..20)
    ) {
        let start = Instant::now();
        let (slot, limit) = (Duration::from_nanos(slot), Duration::from_millis(limit));
        let mut schedule = Schedule::new(start, slot, limit);
        let mut times: Vec<_> = (0..there).map(|_| schedule.next()).collect();
        let mut now = start;
        for (step, come) in steps {
            now += Duration::from_millis(step);
            for _ in 0..come {
                let time = schedule.next_after(now);
                prop_assert!(time >= now);
                prop_assert!(time <= (start + limit).max(now));
                times.push(time);
            }
        }
        prop_assert!(times.is_sorted());
        // From the end on nobody waits, and before it all stand half a slot apart.
        let before = times.partition_point(|time| *time < start + limit);
        let apart = times[..before].windows(2).all(|two| two[1] - two[0] >= slot / 2 - NS.min(slot / 2));
        prop_assert!(apart);
    }

    /// Fails if a process that stood still tells those whose time has passed faster than one in a slot, or
    /// lets anybody wait beyond the end.
    #[test]
    fn whoever_was_late_is_told_a_slot_apart(
        clients in 2..300usize, slot in 20..2_000u64, stood in 0..600_000u64
    ) {
        let start = Instant::now();
        let slot = Duration::from_millis(slot);
        let limit = slot * u32::try_from(clients).unwrap() * 3;
        let end = start + limit;
        let mut schedule = Schedule::new(start, slot, limit);
        let times: Vec<_> = (0..clients).map(|_| schedule.next()).collect();
        let now = start + Duration::from_millis(stood).min(limit);
        let late: Vec<_> = times.into_iter().filter(|time| *time + SECOND < now).collect();
        let mut told = Vec::new();
        for time in late {
            match schedule.admit(time, false, now) {
                None => told.push(now),
                Some(new) => {
                    prop_assert!(new > now && new <= end);
                    // Its second time, which is kept.
                    prop_assert_eq!(schedule.admit(new, true, new), None);
                    told.push(new);
                }
            }
        }
        let before = told.partition_point(|time| *time < end);
        prop_assert!(told.is_sorted());
        if now < end {
            prop_assert!(told[..before].windows(2).all(|two| two[1] - two[0] >= slot));
        }
    }
}
