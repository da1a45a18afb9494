//! How long answers took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Times from a microsecond to ten minutes, to two digits.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

/// What there is to say of many times. All are zero where there was none.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Quantiles {
    /// How many times there were.
    pub count: u64,
    /// Half of them were no longer than this.
    pub p50: Duration,
    /// 99 of 100 were no longer than this.
    pub p99: Duration,
    /// None was longer than this.
    pub max: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        // Values beyond the range do not occur, requests being bounded, and would be counted as the
        // highest.
        let histogram = Histogram::new_with_bounds(1, 600_000_000, 2);
        Self {
            histogram: histogram.unwrap_or_else(|error| unreachable!("constant bounds: {error}")),
        }
    }
}

impl Latency {
    /// Notes one.
    pub fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(micros);
    }

    /// What there is to say of all.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        let of = &self.histogram;
        Quantiles {
            count: of.len(),
            p50: Duration::from_micros(of.value_at_quantile(0.5)),
            p99: Duration::from_micros(of.value_at_quantile(0.99)),
            max: Duration::from_micros(of.max()),
        }
    }

    /// The same, and forgets them.
    pub fn take(&mut self) -> Quantiles {
        let quantiles = self.quantiles();
        self.histogram.reset();
        quantiles
    }
}
