//! The phases of a drain, in the order in which they are entered.

use std::fmt;

use serde::Serialize;

/// Where a drain stands.
///
/// Phases are ordered: a later one compares greater. A drain only goes forward, with one
/// exception: an upgrade whose successor dies before this process has left is taken back with
/// [`Graceful::resume`](crate::Graceful::resume), and the phase is [`Running`](Self::Running) again.
///
/// # Examples
///
/// ```
/// use handover::Phase;
///
/// assert!(Phase::Running.is_ready() && Phase::Running.accepts());
/// assert!(!Phase::LameDuck.is_ready() && Phase::LameDuck.accepts());
/// assert!(Phase::Draining < Phase::Cutting, "phases are ordered");
/// assert!(!Phase::Draining.accepts());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[repr(u8)]
pub enum Phase {
    /// Ready, accepting, serving.
    Running = 0,
    /// Not ready any more, but accepting and serving until routers have noticed. Clients are told
    /// to go elsewhere.
    LameDuck = 1,
    /// Not accepting. What is open is served, and told to go elsewhere.
    Draining = 2,
    /// The deadline is over: what is left is being ended.
    Cutting = 3,
    /// No guard is left, and none is given out any more. The process may exit.
    Drained = 4,
}

impl Phase {
    #[inline]
    pub(crate) fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Running,
            1 => Self::LameDuck,
            2 => Self::Draining,
            3 => Self::Cutting,
            _ => Self::Drained,
        }
    }

    /// Returns true while a load balancer should send requests here.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self == Self::Running
    }

    /// Returns true while new connections are accepted.
    #[must_use]
    pub fn accepts(self) -> bool {
        self <= Self::LameDuck
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::LameDuck => "lame duck",
            Self::Draining => "draining",
            Self::Cutting => "cutting",
            Self::Drained => "drained",
        })
    }
}
