//! When each of many clients is told to go. Arithmetic only.

use std::time::Duration;

use tokio::time::Instant;

/// Slots of one length, one client in each.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    window: Duration,
    clients: usize,
    given: usize,
}

impl Schedule {
    /// `clients` of them within `window`.
    pub(crate) fn new(start: Instant, window: Duration, clients: usize) -> Self {
        Self {
            start,
            window,
            clients,
            given: 0,
        }
    }

    /// The time of the next client: somewhere in the second half of its slot, so that any two are
    /// at least half a slot apart. Whoever comes when all slots are given goes at the end.
    pub(crate) fn next(&mut self) -> Instant {
        let place = self.given as f64 + 0.5 + fastrand::f64() / 2.0;
        self.given += 1;
        let part = place / self.clients.max(1) as f64;
        self.start + self.window.mul_f64(part.min(1.0))
    }

    /// Clients in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.clients as f64 / self.window.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The whole seconds from the start until then.
    pub(crate) fn second(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.start).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails if more than their share of a million fall into any second, or into any other time of
    /// one second's length.
    #[tokio::test(start_paused = true)]
    async fn a_million_are_spread_evenly() {
        let (start, window) = (Instant::now(), Duration::from_secs(20));
        let mut schedule = Schedule::new(start, window, 1_000_000);
        let times: Vec<_> = (0..1_000_000).map(|_| schedule.next()).collect();
        assert!(times.is_sorted());
        assert!(times[0] > start && times[999_999] <= start + window);
        let second = Duration::from_secs(1);
        let mut first = 0;
        for (at, time) in times.iter().enumerate() {
            while *time - times[first] > second {
                first += 1;
            }
            assert!(at - first <= 50_001, "{} in a second", at - first);
        }
        assert_eq!(schedule.next(), start + window, "one that came late");
        assert!((schedule.rate() - 50_000.0).abs() < 1e-6);
    }
}
