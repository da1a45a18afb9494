//! How a WebSocket is told to go: when, in which words, and how long it may take to answer.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::Draining;
use crate::{Turn, guard::Holder};

/// "Going away": the service ends.
const GOING_AWAY: u16 = 1001;
/// "Service restart": a client that connects again finds the successor.
const SERVICE_RESTART: u16 = 1012;
/// All that a close frame has room for, beside the code.
const LONGEST_REASON: usize = 123;

/// What WebSockets are told when their server drains.
///
/// ```
/// use std::time::Duration;
///
/// use handover::ClosePolicy;
///
/// // For clients that take 1012 for a failure, and know best when to come back.
/// let policy = ClosePolicy::default()
///     .with_codes(1001, 1001)
///     .with_reason("see you")
///     .without_retry_hint()
///     .with_limit(Duration::from_secs(2));
/// # let _ = policy;
/// ```
#[derive(Clone, Debug)]
pub struct ClosePolicy {
    successor: u16,
    stop: u16,
    reason: Cow<'static, str>,
    hints: bool,
    limit: Duration,
}

impl Default for ClosePolicy {
    fn default() -> Self {
        Self {
            successor: SERVICE_RESTART,
            stop: GOING_AWAY,
            reason: "server draining".into(),
            hints: true,
            limit: Duration::from_secs(5),
        }
    }
}

impl ClosePolicy {
    /// The codes of the close frame: where a successor serves, and where none does. Default 1012,
    /// "service restart", and 1001, "going away".
    #[must_use]
    pub fn with_codes(mut self, successor: u16, stop: u16) -> Self {
        (self.successor, self.stop) = (successor, stop);
        self
    }

    /// The reason in words. Default "server draining".
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Leaves out when to come back, which follows the reason otherwise: "server draining, retry in
    /// 1.7 s", a time that is drawn for each client as [`Policy::with_retry`](crate::Policy::with_retry)
    /// says. A browser gives it to a page as `event.reason`.
    #[must_use]
    pub fn without_retry_hint(mut self) -> Self {
        self.hints = false;
        self
    }

    /// How long a client may take to answer the close. Then its connection ends. Default 5 s; a
    /// drain's deadline ends it in any case.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    fn close(&self, draining: &Draining) -> Close {
        let reason = draining.graceful().reason();
        let has_successor = reason.is_some_and(|reason| reason.is_upgrade());
        let hint = match self.hints {
            true => format!("retry in {:.1} s", draining.retry().as_secs_f64()),
            false => String::new(),
        };
        let between = match self.hints && !self.reason.is_empty() {
            true => ", ",
            false => "",
        };
        let mut said = String::new();
        let room = LONGEST_REASON.saturating_sub(between.len() + hint.len());
        for letter in self.reason.chars() {
            if said.len() + letter.len_utf8() > room {
                break;
            }
            said.push(letter);
        }
        Close {
            code: match has_successor {
                true => self.successor,
                false => self.stop,
            },
            reason: format!("{said}{between}{hint}"),
        }
    }
}

/// What goes into a close frame.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::future::poll_fn;
///
/// use handover::{Close, ClosePolicy, Draining, Graceful};
///
/// let graceful = Graceful::new();
/// let policy = ClosePolicy::default().without_retry_hint();
/// let mut closing = Draining::new(graceful.clone()).closing(policy);
/// graceful.drain();
/// let Close { code, reason, .. } = poll_fn(|cx| closing.poll_due(cx)).await;
/// assert_eq!((code, reason.as_str()), (1001, "server draining"));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close {
    /// Its code.
    pub code: u16,
    /// Its reason, of at most 123 bytes.
    pub reason: String,
}

/// When one WebSocket is told to go, and what. For who makes an adaptor for a framework's own: see
/// `handover_axum::ws`, `handover_warp::ws` and `handover_hyper::websocket`.
///
/// While it lives the WebSocket is listed, with its peer and path, among what holds the drain open.
/// Made by [`Draining::closing`].
///
/// 1. Poll [`poll_due`](Self::poll_due) whenever the peer has sent nothing, and
///    [`touch`](Self::touch) when it has.
/// 2. Send the [`Close`] that comes of it, as the last frame.
/// 3. Read on, and hand out what comes, until the peer's own close, or until
///    [`poll_limit`](Self::poll_limit) is ready; then [`end_well`](Self::end_well), if the close was
///    sent, and drop the connection.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::{future::poll_fn, time::Duration};
///
/// use handover::{ClosePolicy, Draining, Graceful};
/// use tokio::sync::mpsc;
///
/// /// A socket of messages, whose client answers nothing.
/// async fn serve(mut messages: mpsc::Receiver<String>, draining: Draining) -> u16 {
///     let policy = ClosePolicy::default().with_limit(Duration::from_millis(20));
///     let mut closing = draining.closing(policy);
///     let mut code = 0;
///     while !closing.is_told() {
///         tokio::select! {
///             message = messages.recv() => match message {
///                 Some(_) => closing.touch(),
///                 None => return code,
///             },
///             close = poll_fn(|cx| closing.poll_due(cx)) => code = close.code, // and send it
///         }
///     }
///     assert!(closing.take_due().is_none(), "it is told once");
///     poll_fn(|cx| closing.poll_limit(cx)).await; // and read on meanwhile
///     closing.end_well();
///     code
/// }
///
/// let graceful = Graceful::new();
/// let (_client, messages) = mpsc::channel(8);
/// let served = tokio::spawn(serve(messages, Draining::new(graceful.clone())));
/// graceful.drain();
/// assert_eq!(served.await.unwrap(), 1001);
/// # }
/// ```
#[must_use = "a WebSocket that nobody closes holds the drain open to its deadline"]
pub struct Closing {
    draining: Draining,
    policy: ClosePolicy,
    state: State,
    turn: Turn,
    // Where nothing else does.
    _holder: Option<Holder>,
}

enum State {
    Open,
    Told(Pin<Box<Sleep>>),
    Over,
}

impl Closing {
    pub(super) fn new(draining: &Draining, policy: ClosePolicy) -> Self {
        Self {
            policy,
            state: State::Open,
            turn: draining.turn(),
            _holder: draining.hold_websocket(),
            draining: draining.clone(),
        }
    }

    /// Says that the client has just sent something. Those that have sent nothing for longest are
    /// told first.
    pub fn touch(&self) {
        self.turn.touch();
    }

    /// Ready, once, when the client is to be told: with what. Its time to answer begins.
    pub fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        if !matches!(self.state, State::Open) {
            return Poll::Pending;
        }
        ready!(self.turn.poll(cx));
        Poll::Ready(self.begin())
    }

    /// What [`poll_due`](Self::poll_due) would be ready with, for a task that is not the one which
    /// waits for it.
    pub fn take_due(&mut self) -> Option<Close> {
        let due = matches!(self.state, State::Open) && self.turn.has_come();
        due.then(|| self.begin())
    }

    fn begin(&mut self) -> Close {
        self.state = State::Told(Box::pin(sleep(self.policy.limit)));
        self.policy.close(&self.draining)
    }

    /// Says that all has been sent, the close included, so that the end of the connection is none
    /// that comes too early: over TLS the client is told so.
    pub fn end_well(&self) {
        self.draining.end_well();
    }

    /// Whether the client has been told.
    #[must_use]
    pub fn is_told(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    /// Ready when a client that was told has not answered in time.
    pub fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            State::Open => Poll::Pending,
            State::Told(sleep) => {
                ready!(sleep.as_mut().poll(cx));
                self.state = State::Over;
                self.turn.count_unanswered();
                tracing::info!(client = ?self.draining, "a WebSocket's close was not answered");
                Poll::Ready(())
            }
            State::Over => Poll::Ready(()),
        }
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing")
            .field("draining", &self.draining)
            .field("told", &self.is_told())
            .finish_non_exhaustive()
    }
}
