//! How long each phase of a drain may take.

use std::time::Duration;

/// The longest that a time is taken for. Every clock can be asked for a moment that far away, and for
/// that of several such times in a row.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How a drain goes: one total deadline, and what happens within it.
///
/// The deadline runs from the call to [`drain`](crate::Graceful::drain); the lame duck and the
/// announce window lie inside it, so that no two clocks need be added up. A time of more than a year
/// counts as a year: so [`Duration::MAX`] may stand for "as long as it takes".
///
/// ```
/// use std::time::Duration;
/// use handover::{Graceful, Policy};
///
/// let policy = Policy::default()
///     .with_lame_duck(Duration::from_secs(5))
///     .with_deadline(Duration::from_secs(25));
/// let graceful = Graceful::with_policy(policy);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    lame_duck: Duration,
    deadline: Duration,
    upgrade_deadline: Duration,
    announce: Duration,
    close_spread: Duration,
    retry: Duration,
    cut_grace: Duration,
    last_stage: Duration,
    log_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lame_duck: Duration::ZERO,
            // Inside the 30 s that Kubernetes and most supervisors grant.
            deadline: Duration::from_secs(25),
            // endless' hammer time. Nobody waits for a process whose successor serves.
            upgrade_deadline: Duration::from_secs(60),
            announce: Duration::from_secs(5),
            close_spread: Duration::from_secs(10),
            // Long enough to be a pause, short enough for a person who looks at a page.
            retry: Duration::from_secs(2),
            // Enough for a 503 to be written, and inside the 100 ms that a drain may overrun.
            cut_grace: Duration::from_millis(60),
            // A batch goes over a network in that, and what is behind a disk's buffer into it.
            last_stage: Duration::from_secs(2),
            // Longer than what is usual, and several times within the deadline.
            log_after: Duration::from_secs(5),
        }
    }
}

impl Policy {
    /// What Kubernetes needs: endpoints are removed while the pod is already stopping, so it
    /// serves on for 5 s after it has stopped being ready. The total stays under the 30 s of
    /// `terminationGracePeriodSeconds`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use handover::Policy;
    ///
    /// let policy = Policy::kubernetes();
    /// assert_eq!(policy.lame_duck(), Duration::from_secs(5));
    /// assert!(policy.deadline(false) + policy.cut_grace() < Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn kubernetes() -> Self {
        Self::default().with_lame_duck(Duration::from_secs(5))
    }

    /// What systemd needs: nobody asks whether the service is ready, so there is no lame duck, and a
    /// drain may take 80 s of the 90 s that `TimeoutStopSec=` grants by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use handover::Policy;
    ///
    /// let policy = Policy::systemd();
    /// assert_eq!((policy.lame_duck(), policy.deadline(false)), (Duration::ZERO, Duration::from_secs(80)));
    /// ```
    #[must_use]
    pub fn systemd() -> Self {
        Self::default().with_deadline(Duration::from_secs(80))
    }

    /// What a container engine needs: `docker stop` and its like kill after 10 s, so a drain takes 8 s
    /// at most, and what it spreads over clients is done within that.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use handover::Policy;
    ///
    /// assert_eq!(Policy::container().deadline(false), Duration::from_secs(8));
    /// ```
    #[must_use]
    pub fn container() -> Self {
        Self::default().with_deadline(Duration::from_secs(8))
    }

    /// For how long to go on accepting after readiness has been withdrawn. Default 0. An upgrade
    /// has none: the successor serves.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use handover::Policy;
    ///
    /// let policy = Policy::default()
    ///     .with_lame_duck(Duration::from_secs(10))
    ///     .with_deadline(Duration::from_secs(40))
    ///     .with_upgrade_deadline(Duration::from_secs(120))
    ///     .with_announce(Duration::from_secs(8))
    ///     .with_close_spread(Duration::from_secs(20))
    ///     .with_retry(Duration::from_secs(5))
    ///     .with_last_stage(Duration::from_secs(5))
    ///     .with_cut_grace(Duration::from_millis(200))
    ///     .with_log_after(Duration::from_secs(15));
    /// assert_eq!(policy.lame_duck(), Duration::from_secs(10));
    /// assert_eq!(policy.deadline(false), Duration::from_secs(40));
    /// assert_eq!(policy.deadline(true), Duration::from_secs(120));
    /// // No longer than four fifths of what is left.
    /// assert_eq!(policy.announce(Duration::from_secs(40)), Duration::from_secs(8));
    /// assert_eq!(policy.announce(Duration::from_secs(5)), Duration::from_secs(4));
    /// assert_eq!(policy.retry(), Duration::from_secs(5));
    /// // No more than a quarter of the deadline.
    /// assert_eq!(policy.last_stage(Duration::from_secs(40)), Duration::from_secs(5));
    /// assert_eq!(policy.last_stage(Duration::from_secs(8)), Duration::from_secs(2));
    /// assert_eq!(policy.cut_grace(), Duration::from_millis(200));
    /// assert_eq!(policy.log_after(), Duration::from_secs(15));
    /// ```
    #[must_use]
    pub fn with_lame_duck(mut self, time: Duration) -> Self {
        self.lame_duck = time.min(LONGEST);
        self
    }

    /// When a drain is over, whatever still runs. Default 25 s.
    #[must_use]
    pub fn with_deadline(mut self, time: Duration) -> Self {
        self.deadline = time.min(LONGEST);
        self
    }

    /// The same for a drain after an upgrade. Default 60 s.
    #[must_use]
    pub fn with_upgrade_deadline(mut self, time: Duration) -> Self {
        self.upgrade_deadline = time.min(LONGEST);
        self
    }

    /// For how long an idle connection is kept open, so that its next request can be answered
    /// with `Connection: close`, before it is closed. Default 5 s; never more than four fifths of
    /// what the deadline leaves.
    ///
    /// It should be longer than the pauses of a load balancer's or client's pool: closing an idle
    /// connection loses the request that is just on its way.
    ///
    /// HTTP/2 connections get their GOAWAY in the first half of it, one after another if there are
    /// more than a hundred.
    #[must_use]
    pub fn with_announce(mut self, time: Duration) -> Self {
        self.announce = time.min(LONGEST);
        self
    }

    /// Over how long to spread the moments at which clients are told to go that connect again at
    /// once, such as those of WebSockets and event streams. Default 10 s.
    ///
    /// It is the longest: a hundred clients are told within a second, as are those of a drain with
    /// little time left, whose last tenth is kept free.
    #[must_use]
    pub fn with_close_spread(mut self, time: Duration) -> Self {
        self.close_spread = time.min(LONGEST);
        self
    }

    /// After which time a client that is told to go is told to come back: a random time between half
    /// of this and all of it. Default 2 s.
    ///
    /// The moments at which clients are told are [spread](Self::with_close_spread) already; this
    /// keeps those apart that would come at the same moment all the same, to several servers that
    /// drain at a time.
    #[must_use]
    pub fn with_retry(mut self, time: Duration) -> Self {
        self.retry = time.min(LONGEST);
        self
    }

    /// For how long what was cut may take to end before the drain ends without it. Default 60 ms.
    #[must_use]
    pub fn with_cut_grace(mut self, time: Duration) -> Self {
        self.cut_grace = time.min(LONGEST);
        self
    }

    /// How much of the deadline is kept for the [last stage](crate::Graceful::last_stage), where there
    /// is one. Default 2 s; never more than a quarter of the deadline.
    ///
    /// So the work is cut that much before the deadline, and the last stage has at least this; and
    /// all that is left, if the work is done before.
    #[must_use]
    pub fn with_last_stage(mut self, time: Duration) -> Self {
        self.last_stage = time.min(LONGEST);
        self
    }

    /// After which time a drain logs what it waits for: the oldest holders, and how many more there
    /// are. It does so again after twice that time, and so on. Default 5 s; zero is never.
    ///
    /// It counts from the end of the lame duck. What it says of a service that is to stop is a
    /// warning; after an upgrade, when nobody waits for the end, it is but told.
    #[must_use]
    pub fn with_log_after(mut self, time: Duration) -> Self {
        self.log_after = time.min(LONGEST);
        self
    }

    /// The lame duck's time.
    #[must_use]
    pub fn lame_duck(&self) -> Duration {
        self.lame_duck
    }

    /// The total deadline of a drain, after an upgrade or not.
    #[must_use]
    pub fn deadline(&self, upgrade: bool) -> Duration {
        if upgrade {
            self.upgrade_deadline
        } else {
            self.deadline
        }
    }

    /// The announce window when `remaining` is left until the deadline.
    #[must_use]
    pub fn announce(&self, remaining: Duration) -> Duration {
        // Divided first: whoever asks may name any time.
        self.announce.min(remaining / 5 * 4)
    }

    /// The time over which so many clients are told to go when `remaining` is left until the
    /// deadline.
    #[cfg(not(loom))]
    pub(crate) fn close_spread(&self, clients: usize, remaining: Duration) -> Duration {
        crate::spread::window(self.close_spread, clients, remaining)
    }

    /// After which time a client that is told to go is told to come back.
    #[must_use]
    pub fn retry(&self) -> Duration {
        self.retry
    }

    /// After which time a drain says what it waits for.
    #[must_use]
    pub fn log_after(&self) -> Duration {
        self.log_after
    }

    /// What is kept for the last stage of a drain with this deadline.
    #[must_use]
    pub fn last_stage(&self, deadline: Duration) -> Duration {
        self.last_stage.min(deadline / 4)
    }

    /// The grace after the cut.
    #[must_use]
    pub fn cut_grace(&self) -> Duration {
        self.cut_grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announce_window_ends_before_the_deadline() {
        let policy = Policy::default();
        let second = Duration::from_secs(1);
        assert_eq!(policy.announce(25 * second), 5 * second);
        assert_eq!(policy.announce(second), second * 4 / 5);
        assert_eq!(policy.announce(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn presets_end_before_who_waits_loses_patience() {
        let killed_after = [
            (Policy::kubernetes(), 30),
            (Policy::systemd(), 90),
            (Policy::container(), 10),
        ];
        for (policy, killed_after) in killed_after {
            let end = policy.deadline(false) + policy.cut_grace();
            assert!(end + Duration::from_secs(1) < Duration::from_secs(killed_after));
            assert!(policy.lame_duck() < policy.deadline(false) / 2);
        }
    }

    /// Fails if one setting is lost, or changes another.
    #[cfg(not(loom))]
    #[test]
    fn each_setting_changes_itself_only() {
        let (second, plain) = (Duration::from_secs(1), Policy::default());
        let announced = plain.clone().with_announce(9 * second);
        assert_eq!(announced.announce(100 * second), 9 * second);
        let spread = plain.clone().with_close_spread(second);
        assert_eq!(spread.close_spread(1_000_000, 100 * second), second);
        let retried = plain.clone().with_retry(9 * second);
        assert_eq!(retried.retry(), 9 * second);
        let graced = plain.clone().with_cut_grace(second);
        assert_eq!(graced.cut_grace(), second);
        let logged = plain.clone().with_log_after(9 * second);
        assert_eq!(logged.log_after(), 9 * second);
        let flushed = plain.clone().with_last_stage(9 * second);
        assert_eq!(flushed.last_stage(100 * second), 9 * second);
        assert_eq!(flushed.last_stage(8 * second), 2 * second);
        for changed in [announced, spread, retried, graced, logged, flushed] {
            assert_eq!(changed.deadline(false), plain.deadline(false));
            assert_ne!(changed, plain);
        }
        assert_eq!(Policy::kubernetes().lame_duck(), 5 * second);
        assert_eq!(Policy::systemd().deadline(false), 80 * second);
    }

    #[cfg(not(loom))]
    #[test]
    fn the_close_spread_is_no_longer_than_it_must_be() {
        let policy = Policy::default();
        let second = Duration::from_secs(1);
        for (clients, remaining, expected) in [
            (0, 25 * second, Duration::ZERO),
            (1, 25 * second, second / 100),
            (500, 25 * second, 5 * second),
            (1_000_000, 25 * second, 10 * second),
            (1_000_000, 2 * second, second * 9 / 5),
            (10, Duration::ZERO, Duration::ZERO),
        ] {
            assert_eq!(policy.close_spread(clients, remaining), expected);
        }
    }
}
