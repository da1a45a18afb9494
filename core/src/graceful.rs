//! The token: triggers, observes and holds a drain.

use std::{borrow::Cow, fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

#[cfg(not(loom))]
use crate::spread::Told;
use crate::{
    Phase, Policy, Reason, Report, Stays,
    drain::{Drain, Handles, Stage},
    guard::{Guard, Holder},
    holder::{Describe, Holding, Kind, Named},
    wait::{Drained, Phases, Reached},
};

/// Triggers, observes and holds open the drain of one service.
///
/// Cheap to clone; any clone may do all of it. No runtime is needed to make one: the deadline is
/// kept by the runtime that [`drain`](Self::drain) is called in, or else by a thread.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use handover::Graceful;
///
/// let graceful = Graceful::new();
///
/// // Somewhere, something that a stop has to wait for, and that wants to know of it.
/// let job = graceful.hold("rebuild index").expect("not drained");
/// let draining = graceful.draining();
/// tokio::spawn(async move {
///     draining.await;
///     drop(job);
/// });
///
/// graceful.drain();
/// let report = graceful.drained().await;
/// assert!(report.is_complete());
/// # }
/// ```
#[derive(Clone)]
pub struct Graceful {
    handle: Arc<Handle>,
}

// One stage's view, in one allocation, so that a clone is one count.
#[derive(Clone)]
struct Handle {
    stage: Arc<Stage>,
    handles: Arc<Handles>,
    // Of the token of a connection.
    #[cfg(not(loom))]
    told: Option<Arc<Told>>,
}

impl Graceful {
    /// A running service with the default [`Policy`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_policy(Policy::default())
    }

    /// A running service with this policy.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::{Graceful, Policy};
    ///
    /// let graceful = Graceful::with_policy(Policy::kubernetes());
    /// assert_eq!(graceful.policy(), &Policy::kubernetes());
    /// ```
    #[must_use]
    pub fn with_policy(policy: Policy) -> Self {
        let drain = Drain::new(policy);
        Self::of(drain.first_stage(), Arc::new(Handles(drain)))
    }

    /// Sets the policy step by step.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// How this service drains.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.drain_ref().policy
    }

    // ===== triggers =====

    /// Begins the drain. Idempotent: a second call changes nothing.
    pub fn drain(&self) {
        self.drain_for(Reason::Program);
    }

    /// Begins the drain, and says why. Returns false if one had begun already.
    ///
    /// A drain for an upgrade has no lame duck and a deadline of its own.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::{Graceful, Reason};
    ///
    /// let graceful = Graceful::new();
    /// assert!(graceful.drain_for(Reason::Signal(15)));
    /// assert!(!graceful.drain_for(Reason::Program), "it drains already");
    /// assert_eq!(graceful.reason(), Some(Reason::Signal(15)));
    /// assert_eq!(graceful.report().map(|report| report.reason), graceful.reason());
    /// ```
    pub fn drain_for(&self, reason: Reason) -> bool {
        self.drain_ref().begin(reason)
    }

    /// Ends what is left, now, as the deadline does. Begins the drain if none has begun.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let graceful = handover::Graceful::new();
    /// let job = tokio::spawn(graceful.track("a long one", std::future::pending::<()>()));
    /// tokio::spawn({
    ///     let graceful = graceful.clone();
    ///     async move {
    ///         graceful.cutting().await;
    ///         println!("{:?} left", graceful.remaining());
    ///     }
    /// });
    ///
    /// graceful.cut();
    /// assert_eq!(job.await.unwrap(), None);
    /// let report = graceful.drained().await;
    /// assert_eq!(report.cut[0].what.as_deref(), Some("a long one"));
    /// # }
    /// ```
    pub fn cut(&self) {
        self.drain_ref().cut(Reason::Program);
    }

    /// Takes back a drain for an upgrade whose successor has died: ready and accepting again.
    ///
    /// Returns false, and changes nothing, if no such drain is under way or it has come too far:
    /// it was cut or [made final](Self::make_final), or the last guard had gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::{Graceful, Phase, Reason};
    ///
    /// let graceful = Graceful::new();
    /// let _connection = graceful.guard();
    /// graceful.drain_for(Reason::Upgrade { successor: 4711 });
    /// assert!(graceful.is_draining() && !graceful.is_stopping(), "a successor serves");
    ///
    /// // It has died.
    /// assert!(graceful.resume());
    /// assert_eq!(graceful.phase(), Phase::Running);
    /// ```
    pub fn resume(&self) -> bool {
        self.drain_ref().resume()
    }

    /// Sees to it that the drain under way is not taken back any more. Returns false if there is
    /// none, as after one that was taken back at this very moment.
    ///
    /// For a serve loop that has let go of its listener: a service that is taken back without it
    /// would accept nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::{Graceful, Reason};
    ///
    /// let graceful = Graceful::new();
    /// let _connection = graceful.guard();
    /// graceful.drain_for(Reason::Upgrade { successor: 4711 });
    /// assert!(graceful.make_final());
    /// assert!(!graceful.resume(), "nobody would accept");
    /// ```
    pub fn make_final(&self) -> bool {
        self.drain_ref().make_final()
    }

    // ===== views =====

    /// Where the drain of this stage stands. One load.
    #[must_use]
    #[inline]
    pub fn phase(&self) -> Phase {
        self.handle.stage.phase()
    }

    /// Returns true once clients are to be told to go elsewhere: from the lame duck on.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Running
    }

    /// Why the drain began; `None` while there is none.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.drain_ref().reason()
    }

    /// Returns true once nobody will serve this address any more, as far as this process knows: from
    /// the lame duck on, and never in an upgrade, in which a successor does.
    ///
    /// What has been true once stays so: only an upgrade is [taken back](Self::resume). So who has
    /// seen a drain may ask this for whether to end, although the drain may be over by then.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::{Graceful, Reason};
    ///
    /// let stop = Graceful::new();
    /// stop.drain_for(Reason::Signal(15));
    /// assert!(stop.is_stopping());
    ///
    /// let upgrade = Graceful::new();
    /// upgrade.drain_for(Reason::Upgrade { successor: 4711 });
    /// assert!(!upgrade.is_stopping());
    /// ```
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        // The reason is looked at only where there is one: it is behind a lock. There may be none any
        // more, if an upgrade was taken back meanwhile.
        self.phase() != Phase::Running && self.reason().is_some_and(|reason| !reason.is_upgrade())
    }

    /// How long it is until the deadline; `None` while there is no drain. Where there is a
    /// [last stage](Self::last_stage), that of the work is before that of the whole.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use handover::Graceful;
    ///
    /// let graceful = Graceful::builder().deadline(Duration::from_secs(10)).build();
    /// let _job = graceful.guard();
    /// assert_eq!(graceful.remaining(), None);
    /// graceful.drain();
    /// assert!(graceful.remaining().is_some_and(|left| left <= Duration::from_secs(10)));
    /// ```
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.drain_ref().deadline()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// What the drain came to, once it is over but for its [last stage](Self::last_stage).
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        self.drain_ref().report()
    }

    /// What holds the drain open, or would, at this moment: connections, requests, named tasks.
    ///
    /// It costs nothing until it is asked. Plain guards are only counted, by
    /// [`guards`](Self::guards).
    ///
    /// # Examples
    ///
    /// ```
    /// let graceful = handover::Graceful::new();
    /// let named = graceful.hold("rebuild index");
    /// let plain = graceful.guard();
    /// let names: Vec<_> = graceful.holders().into_iter().map(|holder| holder.what).collect();
    /// assert_eq!(names, [Some("rebuild index".to_owned())]);
    /// assert_eq!(graceful.guards(), 2);
    /// # drop((named, plain));
    /// ```
    #[must_use]
    pub fn holders(&self) -> Vec<Holding> {
        self.drain_ref().holders()
    }

    /// How many guards there are in all stages, named ones included. They come and go meanwhile.
    #[must_use]
    pub fn guards(&self) -> usize {
        self.drain_ref().guards()
    }

    // ===== waits =====

    /// Ends when readiness is withdrawn: at the lame duck, or at the drain where there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::time::Duration;
    ///
    /// use handover::{Graceful, Phase};
    ///
    /// let graceful = Graceful::builder().lame_duck(Duration::from_millis(50)).build();
    /// let _job = graceful.guard();
    /// graceful.drain();
    /// graceful.lame_duck().await; // deregister from a load balancer here
    /// assert_eq!(graceful.phase(), Phase::LameDuck);
    /// graceful.draining().await; // and stop taking work here
    /// assert_eq!(graceful.phase(), Phase::Draining);
    /// # }
    /// ```
    pub fn lame_duck(&self) -> Reached {
        Reached::new(self.handle.stage.clone(), Phase::LameDuck)
    }

    /// Ends when this stage stops taking new work.
    pub fn draining(&self) -> Reached {
        Reached::new(self.handle.stage.clone(), Phase::Draining)
    }

    /// Ends when the deadline is over and what is left is being ended.
    pub fn cutting(&self) -> Reached {
        Reached::new(self.handle.stage.clone(), Phase::Cutting)
    }

    /// The phase, and then each change of it, without holding the drain open.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use handover::{Graceful, Phase};
    ///
    /// let graceful = Graceful::new();
    /// let mut phases = graceful.phases();
    /// assert_eq!(phases.next().await, Phase::Running);
    /// graceful.drain();
    /// assert_eq!(phases.next().await, Phase::Drained);
    /// # }
    /// ```
    #[must_use]
    pub fn phases(&self) -> Phases {
        Phases::new(self.handle.stage.clone())
    }

    /// Ends when all stages are drained. It does not begin the drain.
    pub fn drained(&self) -> Drained {
        Drained::new(self.drain_ref().clone(), self.clone())
    }

    /// A place in the order in which clients are told to go: for what has no end of its own, and
    /// whose client connects again at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let graceful = handover::Graceful::new();
    /// let mut turn = graceful.turn();
    /// let _guard = graceful.guard();
    /// graceful.drain();
    /// turn.comes().await;
    /// # }
    /// ```
    #[cfg(not(loom))]
    pub fn turn(&self) -> crate::Turn {
        crate::Turn::new(self)
    }

    // ===== holds =====

    /// Holds this stage open until the guard is dropped; `None` once it is drained.
    ///
    /// During a drain guards are still given out, for what comes in over open connections: as long
    /// as one is held, the drain is not over.
    ///
    /// # Examples
    ///
    /// ```
    /// let graceful = handover::Graceful::new();
    /// let guard = graceful.guard().expect("the drain is not over");
    /// graceful.drain();
    /// assert!(graceful.report().is_none());
    /// drop(guard);
    /// assert!(graceful.report().is_some());
    /// assert!(graceful.guard().is_none(), "too late");
    /// ```
    #[must_use]
    pub fn guard(&self) -> Option<Guard> {
        // The gate alone would let in after a drain that gave up on its last guards.
        if self.phase() == Phase::Drained {
            return None;
        }
        Some(Guard::new(self.handle.stage.gate().enter()?))
    }

    /// Holds this stage open, by a name that is listed and reported; `None` once it is drained.
    #[must_use]
    pub fn hold(&self, name: impl Into<Cow<'static, str>>) -> Option<Holder> {
        self.hold_as(Arc::new(Named {
            kind: Kind::Task,
            name: name.into(),
            since: Instant::now(),
        }))
    }

    pub(crate) fn hold_as(&self, subject: Arc<dyn Describe>) -> Option<Holder> {
        Some(Holder::new(self.guard()?, subject))
    }

    /// Runs a future to its end while holding this stage open by a name.
    ///
    /// The stage is held from this call on, not from the first poll: what a handler hands to
    /// `tokio::spawn` counts before the task has run for the first time.
    ///
    /// At the cut the future is dropped and the result is `None`; so it is where the stage is
    /// drained already.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let graceful = handover::Graceful::new();
    /// let mail = graceful.stage("mail");
    /// let sent = tokio::spawn(mail.track("to ann", async { "sent" }));
    /// graceful.drain();
    /// assert!(graceful.drained().await.is_complete());
    /// assert_eq!(sent.await.unwrap(), Some("sent"));
    /// # }
    /// ```
    pub fn track<N, F>(
        &self,
        name: N,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> + use<N, F>
    where
        N: Into<Cow<'static, str>>,
        F: Future,
    {
        let holder = self.hold(name);
        async move {
            let mut holder = holder?;
            let mut future = std::pin::pin!(future);
            std::future::poll_fn(|cx| {
                while let std::task::Poll::Ready(phase) = holder.poll_phase(cx) {
                    if phase >= Phase::Cutting {
                        return std::task::Poll::Ready(None);
                    }
                }
                future.as_mut().poll(cx).map(Some)
            })
            .await
        }
    }

    /// The stage of this name, which drains after those before it, in the order in which they
    /// were first asked for. One deadline covers them all.
    ///
    /// What a handler starts and does not wait for belongs into one: it is drained when no request
    /// can start more of it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use handover::{Graceful, Phase};
    ///
    /// let requests = Graceful::new();
    /// let jobs = requests.stage("jobs");
    /// let request = requests.guard();
    /// requests.drain();
    ///
    /// // While a request is under way it may start jobs.
    /// assert_eq!(jobs.phase(), Phase::Running);
    /// let job = jobs.hold("send a receipt").expect("not drained");
    /// drop(request);
    /// assert_eq!(jobs.phase(), Phase::Draining);
    /// drop(job);
    /// assert!(requests.drained().await.is_complete());
    /// # }
    /// ```
    #[must_use]
    pub fn stage(&self, name: &str) -> Self {
        Self::of(self.drain_ref().stage(name), self.handle.handles.clone())
    }

    /// The stage behind the [`Report`]: for what the report itself goes through, such as a buffered
    /// log or an exporter of metrics and traces. There is one, whoever asks for it.
    ///
    /// It drains when all others are over, however late they were asked for, and the report has
    /// been logged; from then on [`report`](Self::report) has it. The drain is over when this stage
    /// is.
    ///
    /// A cut does not reach it, since what was cut is what is to be told: it has some time of its own
    /// behind that, within the same deadline ([`Policy::with_last_stage`]). A cut that comes, or comes
    /// again, when it drains already is meant for it. What holds it is in no report.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # async fn flush() {}
    /// let graceful = handover::Graceful::new();
    /// let last = graceful.last_stage();
    /// let draining = last.draining();
    /// let flushed = tokio::spawn(last.track("telemetry", async {
    ///     draining.await;
    ///     flush().await;
    /// }));
    /// graceful.drain();
    /// assert_eq!(graceful.drained().await.at_start.tasks, 0);
    /// assert_eq!(flushed.await.unwrap(), Some(()));
    /// # }
    /// ```
    #[must_use]
    pub fn last_stage(&self) -> Self {
        Self::of(self.drain_ref().last_stage(), self.handle.handles.clone())
    }

    fn of(stage: Arc<Stage>, handles: Arc<Handles>) -> Self {
        Self {
            handle: Arc::new(Handle {
                stage,
                handles,
                #[cfg(not(loom))]
                told: None,
            }),
        }
    }

    #[cfg(not(loom))]
    pub(crate) fn with_told(&self, told: Arc<Told>) -> Self {
        Self {
            handle: Arc::new(Handle {
                told: Some(told),
                ..Handle::clone(&self.handle)
            }),
        }
    }

    #[cfg(not(loom))]
    pub(crate) fn told(&self) -> Option<&Arc<Told>> {
        self.handle.told.as_ref()
    }

    /// Returns true if both are handles of one service.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::Graceful;
    ///
    /// let graceful = Graceful::new();
    /// assert!(graceful.clone().is_same_drain(&graceful));
    /// assert!(graceful.apart().is_same_drain(&graceful));
    /// assert!(!Graceful::new().is_same_drain(&graceful));
    /// ```
    #[must_use]
    pub fn is_same_drain(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.drain_ref(), other.drain_ref())
    }

    /// The same token, counted apart: its clones do not share a cache line with those of this one.
    ///
    /// For serve loops, which give one to each request: a connection's own is cloned and dropped by one
    /// thread at a time. It allocates.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self {
            handle: Arc::new(Handle::clone(&self.handle)),
        }
    }

    /// Says that a connection will not be moved to the successor, for the [`Report`]. For serve
    /// loops, which say it once for each connection.
    ///
    /// Returns false, and counts nothing, unless a drain for an upgrade is under way.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::{Graceful, Reason, Stays};
    ///
    /// let graceful = Graceful::new();
    /// assert!(!graceful.count_stayed(Stays::Http2), "there is no upgrade");
    /// let connection = graceful.guard();
    /// graceful.drain_for(Reason::Upgrade { successor: 4711 });
    /// assert!(graceful.count_stayed(Stays::Http2));
    /// drop(connection);
    /// assert_eq!(graceful.report().map(|report| report.stayed.count(Stays::Http2)), Some(1));
    /// ```
    pub fn count_stayed(&self, why: Stays) -> bool {
        self.drain_ref().count_stayed(why)
    }

    #[cfg(all(unix, feature = "process"))]
    pub(crate) fn count_moved(&self) {
        self.drain_ref().count_moved();
    }

    pub(crate) fn drain_ref(&self) -> &Arc<Drain> {
        &self.handle.handles.0
    }
}

impl Default for Graceful {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Graceful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graceful")
            .field("stage", &self.handle.stage.name)
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

/// Makes a [`Graceful`] step by step. Each step is one of [`Policy`]'s.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use handover::Graceful;
///
/// let graceful = Graceful::builder()
///     .lame_duck(Duration::from_secs(5))
///     .deadline(Duration::from_secs(25))
///     .upgrade_deadline(Duration::from_secs(60))
///     .announce(Duration::from_secs(8))
///     .close_spread(Duration::from_secs(10))
///     .retry(Duration::from_secs(2))
///     .build();
/// assert_eq!(graceful.policy().deadline(false), Duration::from_secs(25));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    policy: Policy,
}

impl Builder {
    /// For how long to accept on after readiness has been withdrawn.
    #[must_use]
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.policy = self.policy.with_lame_duck(time);
        self
    }

    /// When a drain is over, whatever still runs.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> Self {
        self.policy = self.policy.with_deadline(time);
        self
    }

    /// The same after an upgrade.
    #[must_use]
    pub fn upgrade_deadline(mut self, time: Duration) -> Self {
        self.policy = self.policy.with_upgrade_deadline(time);
        self
    }

    /// Over how long to spread what makes clients connect again.
    #[must_use]
    pub fn close_spread(mut self, time: Duration) -> Self {
        self.policy = self.policy.with_close_spread(time);
        self
    }

    /// After which time clients that are told to go are told to come back.
    #[must_use]
    pub fn retry(mut self, time: Duration) -> Self {
        self.policy = self.policy.with_retry(time);
        self
    }

    /// For how long idle connections are kept open to be told.
    #[must_use]
    pub fn announce(mut self, time: Duration) -> Self {
        self.policy = self.policy.with_announce(time);
        self
    }

    /// A running service with this policy.
    #[must_use]
    pub fn build(self) -> Graceful {
        Graceful::with_policy(self.policy)
    }
}
