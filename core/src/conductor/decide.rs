//! What the conductor does about what happens, without doing it: each decision is a function of
//! what this process knows, and its outcome is a list of acts, to be done in this order. The search
//! in [`model`](super::model) tries these very functions, in every order of events.

use Act::*;

use crate::{Phase, error::Kind, signals::Action, upgrade::attempt::Stage};

/// What a decision looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) phase: Phase,
    /// The drain under way is that of an upgrade.
    pub(super) is_upgrade: bool,
    /// This generation has become ready.
    pub(super) ready: bool,
    /// There is an attempt, and how far it is.
    pub(super) attempt: Option<Stage>,
    /// How often this process was told to stop.
    pub(super) stops: u32,
    /// The beginning of the drain has been acted on.
    pub(super) begun: bool,
}

/// One thing to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// Begin to drain, for the reason at hand.
    Drain,
    /// Note that the beginning of the drain was acted on.
    Begin,
    /// End what is left now.
    Cut,
    /// Tell the service manager that the service stops.
    TellOfStop,
    /// Tell the predecessor that it need not serve again, whatever becomes of us.
    SayBye,
    /// There is no predecessor any more that may serve again.
    BecomeAlone,
    /// End the attempt, and kill its successor.
    DropAttempt,
    /// Stop the successor, once the attempt has come to its end.
    StopSuccessorLater,
    /// The successor's end is no concern of ours any more.
    Release,
    /// Stop the successor.
    Terminate,
    /// The successor has the service: nothing of ours that is shared is removed.
    HandOver,
    /// Accept nothing.
    ShutGates,
    /// Stay behind the successor for a time, if one is set.
    BeginProbation,
    /// Need not stay behind it any longer.
    EndProbation,
    /// Ask the successor to claim what it holds.
    Settle,
    /// Tell the service manager who serves by now.
    TellOfSuccessor,
    /// Cut the oldest generations, if too many drain.
    BoundDrains,
    /// Nobody has the service any more but us.
    TakeService,
    /// See that the pid file is ours.
    ReclaimPidFile,
    /// Tell the service manager that this is the main process.
    TellOfUs,
    /// Accept again.
    OpenGates,
    /// Forget that we drained.
    BeginAnew,
    /// Take back what the successor has not claimed.
    TakeBack,
}

/// Why there is no upgrade now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    InProgress,
    Draining,
    NotReady,
}

impl Refused {
    pub(super) fn error(self) -> (Kind, &'static str) {
        match self {
            Self::InProgress => (Kind::InProgress, "an upgrade of this process is under way"),
            Self::Draining => (
                Kind::Draining,
                "this process drains, there is nothing to hand over",
            ),
            Self::NotReady => (Kind::NotReady, "this process is not ready itself"),
        }
    }
}

/// An upgrade is asked for.
pub(super) fn may_upgrade(view: View) -> Result<(), Refused> {
    if view.attempt.is_some() {
        Err(Refused::InProgress)
    } else if view.phase != Phase::Running {
        Err(Refused::Draining)
    } else if !view.ready {
        Err(Refused::NotReady)
    } else {
        Ok(())
    }
}

/// A signal has come that does not ask for an upgrade; `stops` counts it already. What follows from
/// a drain is decided once it has begun: by [`drain_begun`], before anything else.
pub(super) fn told(action: Action, view: View) -> Vec<Act> {
    let running = view.phase == Phase::Running;
    match action {
        Action::Stop | Action::Drain if running => vec![Drain],
        Action::Stop if view.stops > 1 => vec![Cut],
        // We are to go, so the successor is on its own.
        Action::Stop => vec![EndProbation, Settle, Release],
        Action::Cut if !running => vec![Cut],
        Action::Cut | Action::Drain | Action::Upgrade | Action::Ignore => Vec::new(),
    }
}

/// The drain has begun, by whomever.
pub(super) fn drain_begun(view: View) -> Vec<Act> {
    if view.begun {
        return Vec::new();
    }
    let mut acts = vec![Begin];
    if view.is_upgrade {
        return acts;
    }
    acts.push(TellOfStop);
    if view.ready {
        // We were told to stop, so a predecessor that still drains must not start to serve again.
        // One that has not handed over yet goes on serving.
        acts.extend([SayBye, BecomeAlone]);
    }
    acts.extend(end_attempt(view));
    acts
}

/// What there is of an attempt is for nothing.
fn end_attempt(view: View) -> Option<Act> {
    Some(match view.attempt? {
        Stage::Starting | Stage::Started => DropAttempt,
        // What it has started may accept already.
        Stage::Committed | Stage::Undone => StopSuccessorLater,
    })
}

/// The attempt has ended: the successor serves. `stop` if the service is to end.
pub(super) fn succeeded(stop: bool) -> Vec<Act> {
    // What becomes of us is the successor's concern now.
    let mut acts = vec![HandOver, ShutGates, SayBye];
    acts.extend(if stop {
        [Terminate, Release, Settle].as_slice()
    } else {
        &[BeginProbation]
    });
    acts.extend([TellOfSuccessor, BoundDrains, Drain]);
    acts
}

/// The attempt has ended, and its successor with it.
pub(super) fn failed(stage: Stage) -> Vec<Act> {
    match has_committed(stage) {
        // It may have written its own.
        true => vec![ReclaimPidFile],
        false => Vec::new(),
    }
}

/// The successor of an attempt may have served, whatever has become of it.
pub(super) fn has_committed(stage: Stage) -> bool {
    matches!(stage, Stage::Committed | Stage::Undone)
}

/// The successor has ended as it should have: it was told to, or has a successor itself.
pub(super) fn successor_left() -> Vec<Act> {
    vec![TakeBack]
}

/// The successor has died, and should have served. The drain is to be taken back after this, if
/// that can be.
pub(super) fn successor_died() -> Vec<Act> {
    vec![TakeService]
}

/// The drain was taken back, or it was too late for that.
pub(super) fn resumed(resumed: bool) -> Vec<Act> {
    let mut acts = Vec::new();
    if resumed {
        acts.extend([ReclaimPidFile, TellOfUs, OpenGates, BeginAnew]);
    } else {
        // The dead one may have an heir, to whom the files belong.
        acts.push(HandOver);
    }
    // Not earlier: the probation may be all that held the drain open. And connections that come back
    // are served on as if nothing had been.
    acts.extend([EndProbation, TakeBack]);
    acts
}

/// The generation after this one has died, and one after that serves.
pub(super) fn superseded(view: View) -> Vec<Act> {
    if view.phase == Phase::Running {
        // It was taken back; and an attempt of ours was for nothing.
        let mut acts = vec![HandOver, ShutGates];
        acts.extend(end_attempt(view));
        acts.extend([SayBye, TellOfSuccessor, Drain]);
        acts
    } else if view.is_upgrade {
        // Also if it was too late to take it back: the files are not ours.
        vec![HandOver, Release, EndProbation]
    } else {
        // It stops; but the files belong to who serves.
        vec![HandOver, ShutGates]
    }
}

/// No later generation is left that could say something. The last may have taken the pid file along.
pub(super) fn unleashed(view: View) -> Vec<Act> {
    // Behind a commit the file may be the successor's; and who drains looks when it is resumed.
    if view.phase != Phase::Running || view.attempt.is_some_and(has_committed) {
        return Vec::new();
    }
    vec![ReclaimPidFile]
}

/// The successor is to claim what it holds, and the probation may be `over`.
pub(super) fn probation_due(over: bool) -> Vec<Act> {
    if over {
        vec![Settle, EndProbation]
    } else {
        vec![Settle]
    }
}

/// The runtime ends, and not because of a drain. Returns true if the successor of the attempt is to
/// carry on alone.
pub(super) fn spares_successor(view: View) -> bool {
    view.phase == Phase::Running && matches!(view.attempt, Some(Stage::Started | Stage::Committed))
}

#[cfg(test)]
mod tests;
