//! What the search of the model leaves open: it tries few signals, and looks at who is left in the
//! end and not at how soon.

use super::*;

/// A process that serves, and of which nobody has asked anything.
const SERVING: View = View {
    phase: Phase::Running,
    is_upgrade: false,
    ready: true,
    attempt: None,
    stops: 0,
    begun: false,
};

/// The same in a drain that has been acted on, with so many words to stop behind it.
fn draining(phase: Phase, stops: u32) -> View {
    View {
        phase,
        stops,
        begun: true,
        ..SERVING
    }
}

/// The first word to stop drains, the second cuts, whatever the first was for.
#[test]
fn a_second_word_to_stop_cuts_and_a_first_one_does_not() {
    let first = View {
        stops: 1,
        ..SERVING
    };
    assert_eq!(told(Action::Stop, first), [Drain]);
    for phase in [Phase::LameDuck, Phase::Draining, Phase::Cutting] {
        for stops in [2, 3, 9] {
            assert_eq!(told(Action::Stop, draining(phase, stops)), [Cut]);
        }
        // It drains for an upgrade, or the program has said so: the first word is for the wait
        // behind the successor.
        let leaves = [EndProbation, Settle, Release];
        assert_eq!(told(Action::Stop, draining(phase, 1)), leaves);
    }
}

#[test]
fn a_word_to_cut_is_for_a_drain_and_one_to_drain_for_a_service() {
    assert_eq!(told(Action::Cut, SERVING), []);
    assert_eq!(told(Action::Drain, SERVING), [Drain]);
    for phase in [Phase::LameDuck, Phase::Draining, Phase::Cutting] {
        assert_eq!(told(Action::Cut, draining(phase, 0)), [Cut]);
        // Said again it does no harm: that is what makes it no second stop.
        assert_eq!(told(Action::Drain, draining(phase, 5)), []);
    }
    for action in [Action::Upgrade, Action::Ignore] {
        assert_eq!(told(action, SERVING), []);
        assert_eq!(told(action, draining(Phase::Draining, 2)), []);
    }
}

/// Or connections would stay with nobody, and a predecessor would wait for its deadline.
#[test]
fn what_a_successor_holds_is_asked_for_and_comes_back() {
    assert_eq!(successor_left(), [TakeBack]);
    // Before the end of the probation they settle, and the probation goes on.
    assert_eq!(probation_due(false), [Settle]);
    assert_eq!(probation_due(true), [Settle, EndProbation]);
}

/// A `main` that returns in the middle of an attempt leaves the service to whom it has started; one
/// that was told to stop, and one that had nobody started yet, does not.
#[test]
fn a_successor_outlives_a_process_that_just_returns() {
    for (attempt, spared) in [
        (None, false),
        (Some(Stage::Starting), false),
        (Some(Stage::Started), true),
        (Some(Stage::Committed), true),
        (Some(Stage::Undone), false),
    ] {
        let view = View { attempt, ..SERVING };
        assert_eq!(spares_successor(view), spared, "{attempt:?}");
        for phase in [Phase::Draining, Phase::Cutting, Phase::Drained] {
            assert!(!spares_successor(View { phase, ..view }), "{attempt:?}");
        }
    }
}

/// Or who serves again, while the next successor of it starts, would be without one for good; and
/// behind a commit the file may be that successor's.
#[test]
fn who_serves_again_sees_to_the_pid_file_when_nobody_is_left_behind_it() {
    for (attempt, acts) in [
        (None, [ReclaimPidFile].as_slice()),
        (Some(Stage::Starting), &[ReclaimPidFile]),
        (Some(Stage::Started), &[ReclaimPidFile]),
        (Some(Stage::Committed), &[]),
        (Some(Stage::Undone), &[]),
    ] {
        let view = View { attempt, ..SERVING };
        assert_eq!(unleashed(view), acts, "{attempt:?}");
    }
    for phase in [Phase::Draining, Phase::Cutting, Phase::Drained] {
        assert_eq!(unleashed(draining(phase, 0)), []);
    }
}
