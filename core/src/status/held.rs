//! What holds a drain open, in numbers.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::seconds;
use crate::{
    Graceful, Kind,
    holder::{self, Holding, known},
    report::Tally,
};

/// How many holders are named in it. It is told often.
const NAMED: usize = 16;

/// What holds a drain open at one moment, or would, if one began.
///
/// Its text is for people: `12 connections, 3 requests, 0 tasks, the longest for 8.0 s`.
///
/// # Examples
///
/// ```
/// use handover::status::Held;
///
/// fn is_quiet(held: &Held) -> bool {
///     for holding in &held.oldest {
///         println!("{holding}");
///     }
///     held.requests == 0 && held.tasks == 0
/// }
///
/// assert!(is_quiet(&Held::default()));
/// assert_eq!(Held::default().to_string(), "0 connections, 0 requests, 0 tasks");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Held {
    /// Connections, busy and idle.
    pub connections: usize,
    /// Requests under way, in those connections or under a layer alone.
    pub requests: usize,
    /// Named background tasks.
    pub tasks: usize,
    /// Guards in all, those that cannot say what they are included.
    pub guards: usize,
    /// The age of the oldest holder that is not idle.
    #[serde(rename = "longest_seconds", with = "seconds")]
    pub longest: Duration,
    /// The holders by kind; kinds of which there is none are left out.
    #[serde(deserialize_with = "known")]
    pub kinds: Vec<HeldKind>,
    /// The oldest that are not idle, sixteen at most, the oldest first.
    #[serde(deserialize_with = "known", skip_serializing_if = "Vec::is_empty")]
    pub oldest: Vec<Holding>,
}

/// How many holders of one kind there are.
///
/// # Examples
///
/// ```
/// use handover::{Kind, status::{Held, HeldKind}};
///
/// fn websockets(held: &Held) -> usize {
///     let of_kind = |kind: &&HeldKind| kind.kind == Kind::WebSocket;
///     held.kinds.iter().find(of_kind).map_or(0, |kind| kind.count)
/// }
///
/// assert_eq!(websockets(&Held::default()), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeldKind {
    /// What they do.
    pub kind: Kind,
    /// How many.
    pub count: usize,
    /// The age of the oldest.
    #[serde(rename = "longest_seconds", with = "seconds")]
    pub longest: Duration,
}

impl Held {
    pub(crate) fn of(graceful: &Graceful) -> Self {
        Self::sum(graceful.holders(), graceful.guards())
    }

    fn sum(holders: Vec<Holding>, guards: usize) -> Self {
        let Tally {
            connections,
            requests,
            tasks,
        } = Tally::of(holders.iter().map(|holder| holder.kind));
        let mut kinds: Vec<HeldKind> = Vec::new();
        for holder in &holders {
            let index = match kinds.iter().position(|known| known.kind == holder.kind) {
                Some(index) => index,
                None => {
                    kinds.push(HeldKind {
                        kind: holder.kind,
                        count: 0,
                        longest: Duration::ZERO,
                    });
                    kinds.len() - 1
                }
            };
            let known = &mut kinds[index];
            known.count += 1;
            known.longest = known.longest.max(holder.age);
        }
        kinds.sort_by_key(|known| known.kind as u8);
        let busy = kinds.iter().filter(|known| !known.kind.is_idle());
        Self {
            connections,
            requests,
            tasks,
            guards,
            longest: busy.map(|known| known.longest).max().unwrap_or_default(),
            kinds,
            oldest: holder::oldest(holders, NAMED).0,
        }
    }

    /// Returns true if the numbers are the same, whatever the ages.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let numbers = |held: &Self| (held.connections, held.requests, held.tasks, held.guards);
        numbers(self) == numbers(other)
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |f: &mut fmt::Formatter<'_>, count: usize, what: &str| {
            write!(f, "{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        one(f, self.connections, "connection")?;
        f.write_str(", ")?;
        one(f, self.requests, "request")?;
        f.write_str(", ")?;
        one(f, self.tasks, "task")?;
        if self.longest > Duration::ZERO {
            write!(f, ", the longest for {:.1} s", self.longest.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn holders_are_summed_up_by_kind() {
        let graceful = Graceful::new();
        let _guard = graceful.guard();
        let _one = graceful.hold("one");
        let _two = graceful.hold("two");
        let held = Held::of(&graceful);
        assert_eq!((held.tasks, held.guards, held.connections), (2, 3, 0));
        assert_eq!(held.kinds.len(), 1);
        assert_eq!((held.kinds[0].kind, held.kinds[0].count), (Kind::Task, 2));
        assert_eq!(held.longest, held.kinds[0].longest);
        assert!(
            held.to_string()
                .starts_with("0 connections, 0 requests, 2 tasks")
        );
    }

    #[test]
    fn kinds_of_a_later_release_are_left_out() {
        let text = r#"{"connections":3,"later":1,"kinds":[
            {"kind":"tunnel","count":1,"longest_seconds":2.0},
            {"kind":"idle","count":2,"longest_seconds":1.5}]}"#;
        let held: Held = serde_json::from_str(text).unwrap();
        assert_eq!(held.connections, 3);
        assert_eq!(held.kinds.len(), 1);
        assert_eq!(held.kinds[0].longest, Duration::from_millis(1500));
        let negative = text.replace("1.5", "-1.5");
        let held: Held = serde_json::from_str(&negative).unwrap();
        assert!(held.kinds.is_empty());
    }
}
