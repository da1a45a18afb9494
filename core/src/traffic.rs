//! What has passed over a connection, and when it last did.
//!
//! # Invariants
//!
//! 1. Only who reads a connection adds to what was received, and only who writes it to what was
//!    sent. So both are a load and a store, and no locked instruction; both may set the time.
//! 2. The numbers only grow. Each is a fact by itself: nobody concludes from one to the other.
//! 3. Looking costs, counting does not: the clock is the kernel's coarse one, which is a few loads
//!    from memory and no system call, and is read once for each read or write that has passed
//!    something.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::seconds;

/// What has passed over a connection, since this process has it.
///
/// It is what the serve loop sees: of TLS, what was encrypted.
///
/// # Examples
///
/// ```
/// use handover::Graceful;
///
/// /// Clients to which answers are sent and which do not take them.
/// fn stuck(graceful: &Graceful) -> usize {
///     let holders = graceful.holders();
///     let traffic = holders.iter().filter_map(|holder| holder.traffic.as_ref());
///     traffic
///         .filter(|traffic| traffic.received > 0 && traffic.sent > 0)
///         .filter(|traffic| traffic.quiet.is_some_and(|quiet| quiet.as_secs() > 60))
///         .count()
/// }
///
/// assert_eq!(stuck(&Graceful::new()), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes from the peer.
    pub received: u64,
    /// Bytes to the peer, as far as the kernel has taken them.
    pub sent: u64,
    /// How long ago the last byte passed, either way, to some milliseconds; `None` if none has.
    #[serde(rename = "quiet_seconds", with = "seconds::option")]
    pub quiet: Option<Duration>,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(quiet) = self.quiet else {
            return f.write_str("no byte yet");
        };
        bytes(f, self.received)?;
        f.write_str(" in, ")?;
        bytes(f, self.sent)?;
        write!(f, " out, quiet for {:.1} s", quiet.as_secs_f64())
    }
}

/// Three digits and a unit.
fn bytes(f: &mut fmt::Formatter<'_>, count: u64) -> fmt::Result {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return write!(f, "{count} B");
    }
    let mut unit = 0;
    // In tenths of a unit.
    let mut tenths = count / 100;
    while tenths >= 10_000 {
        tenths /= 1000;
        unit += 1;
    }
    write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(feature = "accept")]
pub(crate) use self::counters::Counters;

#[cfg(feature = "accept")]
mod counters {
    use std::{
        sync::atomic::{AtomicU64, Ordering::Relaxed},
        time::Duration,
    };

    use super::Traffic;

    /// In place of the time of the last byte.
    const NEVER: u64 = 0;

    /// Counts what passes over one connection.
    #[derive(Debug, Default)]
    pub(crate) struct Counters {
        received: AtomicU64,
        sent: AtomicU64,
        // In milliseconds of the coarse clock.
        last: AtomicU64,
    }

    impl Counters {
        #[inline]
        pub(crate) fn received(&self, bytes: usize) {
            self.count(&self.received, bytes);
        }

        #[inline]
        pub(crate) fn sent(&self, bytes: usize) {
            self.count(&self.sent, bytes);
        }

        #[inline]
        fn count(&self, direction: &AtomicU64, bytes: usize) {
            if bytes > 0 {
                let sum = direction.load(Relaxed).wrapping_add(bytes as u64);
                direction.store(sum, Relaxed);
                self.last.store(now(), Relaxed);
            }
        }

        pub(crate) fn look(&self) -> Traffic {
            let last = match self.last.load(Relaxed) {
                NEVER => None,
                last => Some(Duration::from_millis(now().saturating_sub(last))),
            };
            Traffic {
                received: self.received.load(Relaxed),
                sent: self.sent.load(Relaxed),
                quiet: last,
            }
        }
    }

    /// Milliseconds since some moment, never [`NEVER`].
    #[cfg(all(target_os = "linux", feature = "process"))]
    fn now() -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        // Since the machine was started: neither is negative.
        let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
        seconds * 1000 + nanos / 1_000_000 + 1
    }

    /// Elsewhere there is no coarser clock than the one that everybody has.
    #[cfg(not(all(target_os = "linux", feature = "process")))]
    fn now() -> u64 {
        use std::{sync::OnceLock, time::Instant};

        static BEGAN: OnceLock<Instant> = OnceLock::new();
        let since = BEGAN.get_or_init(Instant::now).elapsed().as_millis();
        u64::try_from(since).unwrap_or(u64::MAX - 1) + 1
    }

    #[cfg(test)]
    mod tests {
        use std::{thread::sleep, time::Instant};

        use super::*;

        #[test]
        fn what_passes_is_counted_by_direction_and_ends_the_quiet() {
            let counters = Counters::default();
            counters.received(0);
            assert_eq!(counters.look(), Traffic::default(), "nothing has passed");
            let began = Instant::now();
            counters.received(100);
            counters.sent(5000);
            counters.received(12);
            let look = counters.look();
            assert_eq!((look.received, look.sent), (112, 5000));
            let tick = Duration::from_millis(20);
            assert!(look.quiet.unwrap() <= began.elapsed() + tick, "{look:?}");
            while counters.look().quiet.unwrap() < 5 * tick {
                assert!(began.elapsed() < 500 * tick, "time stands still");
                sleep(tick);
            }
            counters.sent(0);
            assert!(counters.look().quiet.unwrap() >= 5 * tick);
            let again = Instant::now();
            counters.sent(1);
            assert!(counters.look().quiet.unwrap() <= again.elapsed() + tick);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_well() {
        let traffic = |received, sent| Traffic {
            received,
            sent,
            quiet: Some(Duration::from_millis(30_040)),
        };
        assert_eq!(Traffic::default().to_string(), "no byte yet");
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_999, "999.9 kB"),
            (1_250_000, "1.2 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            let expected = format!("{text} in, 7 B out, quiet for 30.0 s");
            assert_eq!(traffic(count, 7).to_string(), expected);
        }
    }
}
