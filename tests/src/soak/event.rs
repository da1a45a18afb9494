//! What can happen to a service.

use std::fmt;

use fastrand::Rng;

use super::row::Row;
use crate::faults::{Action, Left, Lost, POINTS, Point, Role, outcome};

/// What is done to a service.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// One upgrade.
    Upgrade,
    /// So many, each as soon as the one before serves.
    Upgrades(u8),
    /// An upgrade in which a process fails.
    Fault(&'static Point, Action),
    /// A drain, and a start after it, on a socket that is kept.
    Restart,
}

/// The sorts of events, as they are counted.
pub(super) const SORTS: [&str; 4] = ["upgrade", "upgrades", "fault", "restart"];

const ACTIONS: [Action; 6] = [
    Action::Exit,
    Action::Panic,
    Action::Hang,
    Action::Kill,
    Action::StopAndGoOn,
    Action::StopAndKill,
];

impl Event {
    /// Draws one that can happen to this server.
    pub(super) fn draw(rng: &mut Rng, row: &Row, socket_is_kept: bool) -> Self {
        if row.is_bare {
            return Self::Restart;
        }
        match rng.u8(0..10) {
            0..3 => Self::Upgrade,
            3 => Self::Upgrades(rng.u8(2..5)),
            4..6 if socket_is_kept => Self::Restart,
            _ => Self::fault(rng, row),
        }
    }

    fn fault(rng: &mut Rng, row: &Row) -> Self {
        loop {
            let point = &POINTS[rng.usize(..POINTS.len())];
            let action = ACTIONS[rng.usize(..ACTIONS.len())];
            if is_survived(row, point, action) {
                return Self::Fault(point, action);
            }
        }
    }

    /// Of which sort it is.
    pub(super) fn sort(self) -> &'static str {
        match self {
            Self::Upgrade => SORTS[0],
            Self::Upgrades(_) => SORTS[1],
            Self::Fault(..) => SORTS[2],
            Self::Restart => SORTS[3],
        }
    }
}

/// Whether the service outlives it, and comes there at all.
fn is_survived(row: &Row, point: &Point, action: Action) -> bool {
    let is_of_moving = [
        "connections-sent",
        "claim-heard",
        "connections-received",
        "claimed",
    ];
    let (left, lost) = outcome(point, action);
    let is_crash = lost == Lost::Crash || matches!(left, Left::Afresh | Left::Nobody);
    let happens_by_itself = match action {
        Action::Panic => point.is_in_main,
        // Ended by a time limit.
        Action::Hang => point.role == Role::Successor && point.step <= 3,
        _ => true,
    };
    !is_crash && happens_by_itself && (row.moves || !is_of_moving.contains(&point.name))
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upgrade => f.write_str("upgrade"),
            Self::Upgrades(number) => write!(f, "{number} upgrades in a row"),
            Self::Fault(point, action) => write!(f, "upgrade with a fault: {point}, {action:?}"),
            Self::Restart => f.write_str("restart"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::ROWS;

    #[test]
    fn a_seed_gives_one_order() {
        let order = |seed| {
            let mut rng = Rng::with_seed(seed);
            let draw = |_| Event::draw(&mut rng, &ROWS[0], true).to_string();
            (0..200).map(draw).collect::<Vec<_>>()
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
        for sort in ["upgrade", "3 upgrades in a row", "restart"] {
            assert!(order(7).iter().any(|event| event == sort), "{sort}");
        }
    }
}
