//! What each signal does to a generation.
//!
//! Nothing is done inside a signal handler. Each kind of signal has a task of its own that runs the
//! hooks before, has the [conductor](crate::conductor) act, and runs the hooks after. While it does
//! so, one more of its kind is kept, as the kernel does; other kinds are not held up.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc::UnboundedSender, oneshot},
};

use crate::{
    Graceful,
    conductor::Request,
    error::{Error, Kind},
};

type Hook = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What a signal does.
///
/// # Examples
///
/// ```
/// use handover::{Action, Signals};
/// use tokio::signal::unix::SignalKind;
///
/// // As nginx has them.
/// let signals = Signals::none()
///     .on(SignalKind::terminate(), Action::Stop)
///     .on(SignalKind::quit(), Action::Drain)
///     .on(SignalKind::user_defined2(), Action::Upgrade)
///     .on(SignalKind::user_defined1(), Action::Ignore)
///     .on(SignalKind::alarm(), Action::Cut);
/// println!("{signals:?}");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Drains; a second one cuts.
    Stop,
    /// Drains; a second one changes nothing.
    Drain,
    /// Cuts, if a drain is under way.
    Cut,
    /// Starts a successor.
    Upgrade,
    /// Nothing but its hooks: also the way to give a signal a meaning of your own.
    Ignore,
}

/// Which signal does what.
///
/// | signal | action |
/// |---|---|
/// | `SIGTERM`, `SIGINT` | [`Stop`](Action::Stop) |
/// | `SIGQUIT` | [`Drain`](Action::Drain) |
/// | `SIGHUP` | [`Upgrade`](Action::Upgrade) |
/// | `SIGUSR2` | [`Cut`](Action::Cut) |
///
/// All others are left alone. Hooks run in the runtime, not in a signal handler, so that they may
/// do what they like; the action waits for the hooks before it, and those after it run once it is
/// done: the drain or cut has begun, the upgrade has succeeded or failed. A drain is not over before
/// the hooks are, up to its deadline. A signal that comes while
/// hooks of its kind run is not lost; several of a kind are one, as in the kernel.
///
/// # Examples
///
/// ```
/// use handover::{Action, Signals};
/// use tokio::signal::unix::SignalKind;
///
/// let signals = Signals::new()
///     .on(SignalKind::user_defined1(), Action::Ignore)
///     .before(SignalKind::user_defined1(), || async { println!("log files are opened anew") })
///     .leave(SignalKind::interrupt());
/// ```
#[derive(Clone)]
pub struct Signals {
    rules: Vec<Rule>,
}

#[derive(Clone)]
struct Rule {
    kind: SignalKind,
    // `None`: left alone, though it may have hooks by now.
    action: Option<Action>,
    before: Vec<Hook>,
    after: Vec<Hook>,
}

impl Signals {
    /// The signals of the table above.
    #[must_use]
    pub fn new() -> Self {
        Self::none()
            .on(SignalKind::terminate(), Action::Stop)
            .on(SignalKind::interrupt(), Action::Stop)
            .on(SignalKind::quit(), Action::Drain)
            .on(SignalKind::hangup(), Action::Upgrade)
            .on(SignalKind::user_defined2(), Action::Cut)
    }

    /// No signal at all.
    #[must_use]
    pub fn none() -> Self {
        Self { rules: Vec::new() }
    }

    /// Lets a signal do this.
    #[must_use]
    pub fn on(mut self, kind: SignalKind, action: Action) -> Self {
        self.rule(kind).action = Some(action);
        self
    }

    /// Leaves a signal to the system or to the program. It has no hooks then.
    #[must_use]
    pub fn leave(mut self, kind: SignalKind) -> Self {
        self.rules.retain(|rule| rule.kind != kind);
        self
    }

    /// Runs this before the signal's action. Hooks run one after another, in the order given.
    #[must_use]
    pub fn before<F, Fut>(mut self, kind: SignalKind, hook: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.rule(kind)
            .before
            .push(Arc::new(move || Box::pin(hook())));
        self
    }

    /// Runs this after the signal's action.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::Signals;
    /// use tokio::signal::unix::SignalKind;
    ///
    /// let signals = Signals::new()
    ///     .before(SignalKind::terminate(), || async { println!("leaving the cluster") })
    ///     .after(SignalKind::terminate(), || async { println!("the drain has begun") });
    /// println!("{signals:?}");
    /// ```
    #[must_use]
    pub fn after<F, Fut>(mut self, kind: SignalKind, hook: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.rule(kind)
            .after
            .push(Arc::new(move || Box::pin(hook())));
        self
    }

    fn rule(&mut self, kind: SignalKind) -> &mut Rule {
        let index = match self.rules.iter().position(|rule| rule.kind == kind) {
            Some(index) => index,
            None => {
                self.rules.push(Rule {
                    kind,
                    action: None,
                    before: Vec::new(),
                    after: Vec::new(),
                });
                self.rules.len() - 1
            }
        };
        &mut self.rules[index]
    }

    /// The signal that asks for an upgrade, if there is one.
    pub(crate) fn upgrade_signal(&self) -> Option<i32> {
        let upgrades = |rule: &&Rule| rule.action == Some(Action::Upgrade);
        let rule = self.rules.iter().find(upgrades)?;
        Some(rule.kind.as_raw_value())
    }

    /// Installs the handlers. A signal that comes from here on is kept until it can be acted on.
    pub(crate) fn install(self) -> Result<Installed, Error> {
        let mut installed = Vec::new();
        for rule in self.rules {
            // A hook without an action is a signal with a meaning of the user's own.
            if rule.action.is_none() && rule.before.is_empty() && rule.after.is_empty() {
                continue;
            }
            let stream = signal(rule.kind).map_err(|err| {
                let number = rule.kind.as_raw_value();
                Error::io(Kind::Signal, format!("cannot handle signal {number}"), err)
            })?;
            installed.push((rule, stream));
        }
        Ok(Installed(installed))
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self::new()
    }
}

/// Handlers that are in place and not yet listened to.
pub(crate) struct Installed(Vec<(Rule, Signal)>);

impl Installed {
    /// Listens, each kind in a task, until the conductor has ended.
    pub(crate) fn listen(self, requests: &UnboundedSender<Request>, graceful: &Graceful) {
        for (rule, stream) in self.0 {
            tokio::spawn(listen(rule, stream, requests.clone(), graceful.clone()));
        }
    }
}

async fn listen(
    rule: Rule,
    mut stream: Signal,
    requests: UnboundedSender<Request>,
    graceful: Graceful,
) {
    let number = rule.kind.as_raw_value();
    while stream.recv().await.is_some() {
        // What the action begins must not be over, and the process gone, before the hooks are.
        let _guard = graceful.guard();
        for hook in &rule.before {
            hook().await;
        }
        let action = rule.action.unwrap_or(Action::Ignore);
        tracing::debug!(signal = number, ?action, "signal");
        let (done, wait) = oneshot::channel();
        if requests
            .send(Request::Signal {
                number,
                action,
                done,
            })
            .is_ok()
        {
            // An error is the conductor's end, which is as much as the action can do.
            let _ = wait.await;
        } else {
            tracing::info!(signal = number, "ignored: this process has drained");
        }
        for hook in &rule.after {
            hook().await;
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self
            .rules
            .iter()
            .map(|rule| (rule.kind.as_raw_value(), rule.action));
        f.debug_map().entries(rules).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use rustix::process::{Signal as Number, getpid, kill_process};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn hooks_run_around_the_action_and_nothing_is_lost_meanwhile() {
        let order = Arc::new(AtomicU32::new(0));
        let (before, after) = (order.clone(), order.clone());
        let kind = SignalKind::user_defined1();
        let signals = Signals::none()
            .on(kind, Action::Drain)
            .before(kind, move || {
                let before = before.clone();
                async move {
                    before.fetch_add(1, Ordering::SeqCst);
                }
            })
            .after(kind, move || {
                let after = after.clone();
                async move {
                    after.fetch_add(100, Ordering::SeqCst);
                }
            });
        let (send, mut requests) = mpsc::unbounded_channel();
        signals.install().unwrap().listen(&send, &Graceful::new());

        kill_process(getpid(), Number::USR1).unwrap();
        let Some(Request::Signal { action, done, .. }) = requests.recv().await else {
            panic!()
        };
        assert_eq!(action, Action::Drain);
        assert_eq!(order.load(Ordering::SeqCst), 1, "before, and not yet after");

        // Two more while the first is acted on: one is kept.
        kill_process(getpid(), Number::USR1).unwrap();
        kill_process(getpid(), Number::USR1).unwrap();
        assert!(
            tokio::time::timeout(Duration::from_millis(50), requests.recv())
                .await
                .is_err()
        );
        done.send(()).unwrap();
        let Some(Request::Signal { done, .. }) = requests.recv().await else {
            panic!()
        };
        assert_eq!(order.load(Ordering::SeqCst), 102);
        done.send(()).unwrap();
        assert!(
            tokio::time::timeout(Duration::from_millis(50), requests.recv())
                .await
                .is_err()
        );
    }

    #[test]
    fn a_signal_that_is_left_has_no_rule() {
        let kind = SignalKind::terminate();
        assert!(
            Signals::new()
                .leave(kind)
                .rules
                .iter()
                .all(|rule| rule.kind != kind)
        );
    }
}
