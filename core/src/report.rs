//! What a drain came to.

use std::{fmt, time::Duration};

use serde::Serialize;

#[cfg(not(loom))]
use crate::spread::Reconnects;
use crate::{
    Reason, Stayed,
    holder::{Holding, Kind},
    seconds,
};

/// How many holders there were, by what they were.
///
/// # Examples
///
/// ```
/// use handover::Graceful;
///
/// let graceful = Graceful::new();
/// let jobs = [graceful.hold("index"), graceful.hold("mail")];
/// graceful.drain();
/// drop(jobs);
/// let at_start = graceful.report().expect("the drain is over").at_start;
/// assert_eq!((at_start.connections, at_start.requests, at_start.tasks), (0, 0, 2));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// Connections, busy and idle.
    pub connections: usize,
    /// Requests under way, in those connections or under a layer alone.
    pub requests: usize,
    /// Named background tasks.
    pub tasks: usize,
}

impl Tally {
    pub(crate) fn of(kinds: impl Iterator<Item = Kind>) -> Self {
        let mut all = Self::default();
        for kind in kinds {
            all.connections += usize::from(kind.is_connection());
            all.requests += usize::from(kind.is_request());
            all.tasks += usize::from(kind == Kind::Task);
        }
        all
    }
}

/// What a drain came to: what there was, how it ended, how long it took.
///
/// Its text is one line for the log:
///
/// ```text
/// drained in 1.204 s (SIGTERM): 3 connections, 2 requests, 0 tasks at the start; 1 moved; cut 1: GET /export 10.0.0.3:51234, 71.0 s, 312 B in, 1.2 MB out, quiet for 30.0 s
/// ```
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
///
/// use handover::Graceful;
///
/// let graceful = Graceful::builder().deadline(Duration::from_millis(50)).build();
/// tokio::spawn(graceful.track("too long", std::future::pending::<()>()));
/// graceful.drain();
/// let report = graceful.drained().await;
/// assert!(!report.is_complete());
/// for holding in &report.cut {
///     println!("cut: {holding}");
/// }
/// assert!(report.to_string().contains("cut 1: task too long"), "{report}");
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Why the drain began.
    pub reason: Reason,
    /// From the call to `drain` to the end.
    #[serde(rename = "took_seconds", with = "seconds")]
    pub took: Duration,
    /// What was open when the drain began.
    pub at_start: Tally,
    /// Connections that a successor has taken over.
    pub moved: usize,
    /// Connections that no successor has taken over, after an upgrade, and why not. Those that
    /// their clients closed first are in neither count.
    pub stayed: Stayed,
    /// How clients were told to go that come back at once: see [`Turn`](crate::Turn).
    #[cfg(not(loom))]
    pub reconnects: Reconnects,
    /// What was under way when the deadline was over, and so was cut. Idle connections are closed
    /// then, and are not in this list: nobody waits for them.
    pub cut: Vec<Holding>,
    /// Guards that were still held when the drain gave up on them, after the cut.
    pub abandoned: usize,
}

impl Report {
    /// Returns true if everything that was under way has been finished or moved.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.cut.is_empty() && self.abandoned == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            connections,
            requests,
            tasks,
        } = self.at_start;
        write!(
            f,
            "drained in {:.3} s ({}): {connections} connections, {requests} requests, {tasks} tasks at the start",
            self.took.as_secs_f64(),
            self.reason,
        )?;
        if self.moved > 0 {
            write!(f, "; {} moved", self.moved)?;
        }
        if self.stayed.total() > 0 {
            write!(f, "; {} stayed: {}", self.stayed.total(), self.stayed)?;
        }
        #[cfg(not(loom))]
        if self.reconnects.told > 0 {
            let Reconnects {
                told,
                expected_per_second,
                peak_per_second,
                unanswered,
            } = self.reconnects;
            write!(
                f,
                "; {told} told to go, {peak_per_second} in a second at most ({expected_per_second:.0} expected)"
            )?;
            if unanswered > 0 {
                write!(f, ", {unanswered} did not answer")?;
            }
        }
        // A log line has an end: the rest is in the data.
        const SHOWN: usize = 8;
        for (i, holding) in self.cut.iter().take(SHOWN).enumerate() {
            match i {
                0 => write!(f, "; cut {}: {holding}", self.cut.len())?,
                _ => write!(f, "; {holding}")?,
            }
        }
        if self.cut.len() > SHOWN {
            f.write_str("; …")?;
        }
        if self.abandoned > 0 {
            write!(f, "; {} guards abandoned", self.abandoned)?;
        }
        Ok(())
    }
}
