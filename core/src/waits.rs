//! What a drain that takes long waits for, as a line for the log.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use crate::{drain::Stage, holder};

/// How many are named. The status has more of them.
const NAMED: usize = 5;

/// When a drain says next what it waits for: after a time, after twice that, and so on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sayings {
    from: Instant,
    after: Duration,
}

impl Sayings {
    /// After so long, first; never, if that is zero.
    pub(crate) fn new(from: Instant, first: Duration) -> Self {
        Self { from, after: first }
    }

    /// `None` if there is nothing to say any more.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.after {
            Duration::ZERO => None,
            after => self.from.checked_add(after),
        }
    }

    /// It is said now.
    pub(crate) fn said(&mut self, now: Instant) {
        // Whoever has slept does not say at once what was due meanwhile.
        while self.due().is_some_and(|due| due <= now) {
            self.after = self.after.saturating_mul(2);
        }
    }
}

/// What holds one stage open.
///
/// Its text is for people: `GET /export 10.0.0.3:51234, 71.0 s; task nightly, 20.0 s; 12 more`.
pub(crate) struct Waits {
    named: Vec<holder::Holding>,
    more: usize,
    idle: usize,
    unnamed: usize,
}

impl Waits {
    pub(crate) fn of(stage: &Stage) -> Self {
        let subjects = stage.signal.subjects();
        let holders: Vec<_> = subjects.iter().map(|subject| subject.describe()).collect();
        let all = holders.len();
        let idle = holders.iter().filter(|one| one.kind.is_idle()).count();
        let (named, more) = holder::oldest(holders, NAMED);
        Self {
            named,
            more,
            idle,
            // Some may have come or gone between the two looks.
            unnamed: stage.gate().guards().saturating_sub(all),
        }
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<_> = self.named.iter().map(ToString::to_string).collect();
        if self.more > 0 {
            parts.push(format!("{} more", self.more));
        }
        for (count, what) in [
            (self.idle, "idle connection"),
            (self.unnamed, "unnamed guard"),
        ] {
            match count {
                0 => {}
                1 => parts.push(format!("1 {what}")),
                _ => parts.push(format!("{count} {what}s")),
            }
        }
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_ever_more_seldom() {
        let from = Instant::now();
        let second = Duration::from_secs(1);
        let mut sayings = Sayings::new(from, 5 * second);
        for after in [5, 10, 20, 40] {
            assert_eq!(sayings.due(), Some(from + after * second));
            sayings.said(from + after * second);
        }
        sayings.said(from + 500 * second);
        assert_eq!(sayings.due(), Some(from + 640 * second), "what was missed");
        assert_eq!(Sayings::new(from, Duration::ZERO).due(), None);
        let mut last = Sayings::new(from, Duration::MAX);
        last.said(from);
        assert_eq!(last.due(), None);
    }
}
