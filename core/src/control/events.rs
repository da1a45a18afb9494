//! Makes events, for who answers at a control socket that is not a generation's own.

use std::time::Duration;

use super::{Event, Failure, Refusal};
use crate::status::{Held, Status};

impl Event {
    /// [`Event::Status`].
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::{control::Event, status::Status};
    ///
    /// let event = Event::status(Status::default());
    /// assert!(event.is_last());
    /// assert!(event.to_line().contains(r#""standing":"starting""#));
    /// ```
    #[must_use]
    pub fn status(status: Status) -> Self {
        let status = Box::new(status);
        Self::Status { status }
    }

    /// [`Event::Begun`].
    #[must_use]
    pub fn begun(pid: u32, generation: u64) -> Self {
        Self::Begun { pid, generation }
    }

    /// [`Event::Starting`].
    #[must_use]
    pub fn starting(pid: u32, generation: u64) -> Self {
        Self::Starting { pid, generation }
    }

    /// [`Event::Initialising`].
    #[must_use]
    pub fn initialising(pid: u32, text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Initialising { pid, text }
    }

    /// [`Event::Ready`].
    #[must_use]
    pub fn ready(pid: u32) -> Self {
        Self::Ready { pid }
    }

    /// [`Event::Serving`].
    #[must_use]
    pub fn serving(pid: u32, generation: u64) -> Self {
        Self::Serving { pid, generation }
    }

    /// [`Event::Draining`].
    #[must_use]
    pub fn draining(held: Held, remaining: Option<Duration>) -> Self {
        Self::Draining { held, remaining }
    }

    /// [`Event::Drained`], of processes of which `cut` had to be killed.
    #[must_use]
    pub fn processes_drained(took: Duration, cut: usize, text: impl Into<String>) -> Self {
        Self::Drained {
            took,
            moved: 0,
            cut,
            abandoned: 0,
            text: text.into(),
        }
    }

    /// [`Event::Cut`].
    #[must_use]
    pub fn cut(pids: Vec<u32>) -> Self {
        Self::Cut { pids }
    }

    /// [`Event::Reexecuted`].
    #[must_use]
    pub fn reexecuted(pid: u32, release: impl Into<String>) -> Self {
        let release = release.into();
        Self::Reexecuted { pid, release }
    }

    /// [`Event::Failed`].
    #[must_use]
    pub fn failed(kind: Failure, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Failed { kind, message }
    }

    /// [`Event::Refused`].
    #[must_use]
    pub fn refused(kind: Refusal, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Refused { kind, message }
    }
}
