//! When each of many clients is told to go. Arithmetic only.

use std::time::Duration;

use tokio::time::Instant;

/// How much later than its time a client may be told as if it were in time: a runtime's clock has
/// milliseconds, and other tasks.
const LATE: Duration = Duration::from_millis(10);

/// Slots of one length, one client in each.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    slot: Duration,
    // Nobody is told later than this.
    end: Instant,
    given: usize,
    // Until then all slots are taken, by those that were told and by those that were late.
    used: Instant,
}

impl Schedule {
    /// Clients that are told `slot` apart, and none later than `limit` after the start.
    pub(crate) fn new(start: Instant, slot: Duration, limit: Duration) -> Self {
        Self {
            start,
            slot,
            end: start + limit,
            given: 0,
            used: start,
        }
    }

    /// The time of the next client: somewhere in the second half of its slot, so that any two are
    /// at least half a slot apart.
    pub(crate) fn next(&mut self) -> Instant {
        let place = self.given as f64 + 0.5 + fastrand::f64() / 2.0;
        self.given += 1;
        (self.start + self.slot.mul_f64(place)).min(self.end)
    }

    /// The same for one that comes now: a slot that lies behind is nobody's.
    pub(crate) fn next_after(&mut self, now: Instant) -> Instant {
        let slot = self.slot.as_secs_f64();
        if slot > 0.0 {
            let passed = now.saturating_duration_since(self.start).as_secs_f64() / slot;
            self.given = self.given.max(passed as usize);
        }
        self.next().max(now)
    }

    /// Whether a client whose time it was may be told now; if not, its new time. `is_kept` says that
    /// its time is already such a one.
    ///
    /// A process that was given no time for a while finds the times of many behind it. They are told
    /// as far apart as ever, and not at one moment.
    pub(crate) fn admit(&mut self, time: Instant, is_kept: bool, now: Instant) -> Option<Instant> {
        let is_in_time = now <= time + LATE;
        if self.slot.is_zero() || now >= self.end || is_in_time && is_kept {
            return None;
        }
        let next = self.used.max(now);
        self.used = next + self.slot;
        if is_in_time && next <= now + self.slot + LATE {
            return None;
        }
        (next > now).then(|| next.min(self.end))
    }

    /// Clients in a second.
    pub(crate) fn rate(&self) -> f64 {
        1.0 / self.slot.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The whole seconds from the start until then.
    pub(crate) fn second(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.start).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Fails if more than their share of a million fall into any second, or into any other time of
    /// one second's length.
    #[cfg_attr(miri, ignore = "a million take an interpreter hours")]
    #[tokio::test(start_paused = true)]
    async fn a_million_are_spread_evenly() {
        let (start, window) = (Instant::now(), 20 * SECOND);
        let mut schedule = Schedule::new(start, window / 1_000_000, 2 * window);
        let times: Vec<_> = (0..1_000_000).map(|_| schedule.next()).collect();
        assert!(times.is_sorted());
        assert!(times[0] > start && times[999_999] <= start + window);
        let mut first = 0;
        for (at, time) in times.iter().enumerate() {
            while *time - times[first] > SECOND {
                first += 1;
            }
            assert!(at - first <= 50_001, "{} in a second", at - first);
        }
        assert!((schedule.rate() - 50_000.0).abs() < 1e-6);
    }

    /// Fails if those that come when all slots are given go at one moment, or their slots lie behind
    /// them, or they go after the end.
    #[tokio::test(start_paused = true)]
    async fn those_that_come_late_are_spread_as_well() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, SECOND / 100, 8 * SECOND);
        for _ in 0..100 {
            schedule.next();
        }
        let now = start + 5 * SECOND;
        let times: Vec<_> = (0..200).map(|_| schedule.next_after(now)).collect();
        assert!(times.is_sorted() && times[0] >= now);
        assert!(times[199] - now > 19 * SECOND / 10, "two seconds' worth");
        let last = (0..200).map(|_| schedule.next_after(now)).last().unwrap();
        assert_eq!(last, start + 8 * SECOND);
        let later = start + 9 * SECOND;
        assert_eq!(schedule.next_after(later), later);
    }

    /// Fails if any two can be told closer than half a slot.
    #[test]
    fn each_time_is_in_the_second_half_of_its_slot() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, SECOND, 1000 * SECOND);
        for slot in 0..500 {
            let into = schedule.next() - (start + slot * SECOND);
            assert!(into >= SECOND / 2 && into <= SECOND, "{into:?} into {slot}");
        }
    }

    #[test]
    fn without_slots_who_comes_late_goes_at_once() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, Duration::ZERO, SECOND);
        assert_eq!(schedule.next_after(start + SECOND / 2), start + SECOND / 2);
    }

    #[test]
    fn who_is_in_time_is_told_then_and_who_is_late_a_slot_after_the_last() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, SECOND, 10 * SECOND);
        // Two neighbours, each in the slot of its own, however close.
        assert_eq!(schedule.admit(start, false, start), None);
        assert_eq!(schedule.admit(start, false, start), None);
        let late = start + 5 * SECOND;
        assert_eq!(schedule.admit(start, false, late), None, "nobody before it");
        assert_eq!(schedule.admit(start, false, late), Some(late + SECOND));
    }

    #[test]
    fn from_the_end_on_nobody_waits() {
        let start = Instant::now();
        let end = start + 10 * SECOND;
        let mut schedule = Schedule::new(start, SECOND, 10 * SECOND);
        let just_before = end - SECOND / 2;
        assert_eq!(schedule.admit(start, false, just_before), None);
        assert_eq!(schedule.admit(start, false, just_before), Some(end));
        assert_eq!(schedule.admit(start, false, end + SECOND / 5), None);
    }
}
