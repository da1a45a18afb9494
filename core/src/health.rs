//! What orchestrators and load balancers ask a service: does it live, is it ready, has it started?
//!
//! [`Health`] knows the answers, [`HealthLayer`](crate::HealthLayer) gives them in front of any tower
//! service, and the adapters have them as routes. The paths are those of Kubernetes' own programs:
//!
//! | path | 200 while | 503 means to who asks |
//! |---|---|---|
//! | `/livez` | the process answers at all, also while it drains | kill it |
//! | `/readyz` | this address takes new work | send requests elsewhere |
//! | `/startupz` | it has been ready once | wait |
//!
//! A service that stops is not ready from the first moment of its drain, which is why a lame duck is
//! worth its time. In an upgrade it stays ready: whoever asks on a connection that is still open to
//! the old process asks about an address that the new one serves.

use std::{fmt, sync::Arc};

use crate::Graceful;

/// Answers probes for one service. Cheap to clone.
///
/// ```
/// use handover::{Graceful, health::{Health, Probe}};
///
/// let graceful = Graceful::new();
/// let _work = graceful.guard();
/// let health = Health::new(graceful.clone());
/// assert!(health.check(Probe::Ready).is_ok());
///
/// graceful.drain();
/// assert!(health.check(Probe::Ready).is_err());
/// assert!(health.check(Probe::Live).is_ok());
/// ```
#[derive(Clone)]
pub struct Health {
    graceful: Graceful,
    started: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// What is asked.
///
/// # Examples
///
/// ```
/// use handover::health::Probe;
///
/// assert_eq!(Probe::from_path("/readyz"), Some(Probe::Ready));
/// assert_eq!(Probe::from_path("/"), None);
/// for probe in Probe::ALL {
///     assert_eq!(Probe::from_path(probe.path()), Some(probe));
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Probe {
    /// `/livez`: does it answer at all?
    Live,
    /// `/readyz`: should requests be sent here?
    Ready,
    /// `/startupz`: has it come so far as to serve?
    Startup,
}

impl Probe {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Live, Self::Ready, Self::Startup];

    /// What a request for this path asks; `None` for every other path.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|probe| probe.path() == path)
    }

    /// Where it is asked.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
            Self::Startup => "/startupz",
        }
    }
}

impl Health {
    /// The health of what drains by this token, and has started.
    #[must_use]
    pub fn new(graceful: Graceful) -> Self {
        Self {
            graceful,
            started: Arc::new(|| true),
        }
    }

    /// The same, of a service that has started once this says so. For a generation,
    /// `Generation::health` has it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
    ///
    /// use handover::{Graceful, health::{Health, Probe}};
    ///
    /// let started = Arc::new(AtomicBool::new(false));
    /// let health = Health::new(Graceful::new()).started_when({
    ///     let started = started.clone();
    ///     move || started.load(Ordering::Relaxed)
    /// });
    /// assert!(health.check(Probe::Startup).is_err());
    /// started.store(true, Ordering::Relaxed);
    /// assert!(health.check(Probe::Startup).is_ok());
    /// ```
    #[must_use]
    pub fn started_when(mut self, started: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.started = Arc::new(started);
        self
    }

    /// Answers a probe.
    ///
    /// # Errors
    ///
    /// The reason, in a few words and for people, where the answer is 503.
    pub fn check(&self, probe: Probe) -> Result<(), String> {
        let starting = || match (self.started)() {
            true => Ok(()),
            false => Err("starting".to_owned()),
        };
        match probe {
            Probe::Live => Ok(()),
            Probe::Startup => starting(),
            Probe::Ready if self.graceful.is_stopping() => Err(self.why()),
            Probe::Ready => starting(),
        }
    }

    fn why(&self) -> String {
        let phase = self.graceful.phase();
        match (self.graceful.reason(), self.graceful.remaining()) {
            (Some(reason), Some(left)) => {
                format!("{phase} ({reason}), {:.1} s left", left.as_secs_f64())
            }
            _ => phase.to_string(),
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("ready", &self.check(Probe::Ready))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;
    use crate::{Phase, Reason};

    fn ask(health: &Health) -> [bool; 3] {
        Probe::ALL.map(|probe| health.check(probe).is_ok())
    }

    #[tokio::test]
    async fn one_that_stops_is_not_ready_and_lives() {
        let graceful = Graceful::new();
        let guard = graceful.guard();
        let health = Health::new(graceful.clone());
        assert_eq!(ask(&health), [true; 3]);
        graceful.drain();
        assert_eq!(ask(&health), [true, false, true]);
        let why = health.check(Probe::Ready).unwrap_err();
        assert!(why.starts_with("draining ("), "{why}");
        drop(guard);
        assert_eq!(ask(&health), [true, false, true]);
    }

    #[tokio::test]
    async fn one_that_is_replaced_stays_ready() {
        let graceful = Graceful::new();
        let _guard = graceful.guard();
        let health = Health::new(graceful.clone());
        graceful.drain_for(Reason::Upgrade { successor: 1 });
        assert_eq!(graceful.phase(), Phase::Draining);
        assert_eq!(ask(&health), [true; 3]);
    }

    #[tokio::test]
    async fn one_that_starts_lives() {
        let started = Arc::new(AtomicBool::new(false));
        let health = Health::new(Graceful::new());
        let health = health.started_when({
            let started = Arc::clone(&started);
            move || started.load(Relaxed)
        });
        assert_eq!(ask(&health), [true, false, false]);
        started.store(true, Relaxed);
        assert_eq!(ask(&health), [true; 3]);
    }

    #[test]
    fn paths_are_told_apart() {
        for probe in Probe::ALL {
            assert_eq!(Probe::from_path(probe.path()), Some(probe));
        }
        for path in ["/", "", "/livez/", "livez", "/readyz2"] {
            assert_eq!(Probe::from_path(path), None, "{path:?}");
        }
    }
}
