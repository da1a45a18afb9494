//! Why a connection was not moved to the successor.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal: $text:literal,)*) => {
        /// Why a connection was not given to the successor in an upgrade.
        ///
        /// # Examples
        ///
        /// ```
        /// use handover::Stays;
        ///
        /// assert_eq!(Stays::Tls.code(), "tls");
        /// println!("not moved: {}", Stays::Http2);
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Stays {
            $($(#[$doc])* $variant,)*
        }

        impl Stays {
            /// All reasons.
            const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The reason in one word, as it is serialized.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }
        }

        impl fmt::Display for Stays {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)*
                })
            }
        }
    };
}

reasons! {
    /// It speaks HTTP/2, whose state cannot be moved; GOAWAY tells the client.
    Http2 = "http2": "HTTP/2",
    /// It has left HTTP: a WebSocket, a tunnel.
    Upgraded = "upgraded": "upgraded",
    /// It was not between two requests until the deadline.
    Busy = "busy": "busy until the deadline",
    /// Its client had been told already that it will be closed.
    Announced = "announced": "announced already",
    /// More had been read ahead than can be sent along.
    Unread = "unread": "too much read ahead",
    /// There was more state than can be sent along.
    State = "state": "too much state",
    /// The body of its last request had not been read to its end, and was not there.
    Body = "body": "request body unread",
    /// The successor had no descriptor left for it.
    RefusedDescriptors = "refused_descriptors": "refused for want of descriptors",
    /// The successor has no listener of that name.
    RefusedListener = "refused_listener": "refused without such a listener",
    /// The successor's listener is not served by a loop that takes connections.
    RefusedUnserved = "refused_unserved": "refused by a listener that takes none",
    /// The successor does not know its protocol, or not this version of its state.
    RefusedProtocol = "refused_protocol": "refused for its protocol",
    /// The successor refused it for another reason.
    Refused = "refused": "refused",
    /// The successor had not answered by the deadline.
    Unanswered = "unanswered": "unanswered until the deadline",
    /// There was no successor that takes connections: it is of an older release, or had gone.
    NoTaker = "no_taker": "without a taker",
    /// It is served by a framework's own loop, which does not let go of it.
    Framework = "framework": "in the framework's loop",
    /// It speaks TLS, whose state is in this process.
    Tls = "tls": "TLS",
    /// Its listener cannot give connections away.
    Listener = "listener": "from a listener that gives none",
    /// The program has asked for it.
    Disabled = "disabled": "not to be moved",
    /// It could not be taken out of the runtime, or put back, and was lost.
    Failed = "failed": "failed",
}

impl Stays {
    /// What a successor said why. A later release may know more reasons.
    #[cfg(all(unix, feature = "process"))]
    pub(crate) fn refused(code: &str) -> Self {
        [
            Self::RefusedDescriptors,
            Self::RefusedListener,
            Self::RefusedUnserved,
            Self::RefusedProtocol,
        ]
        .into_iter()
        .find(|why| why.code() == code)
        .unwrap_or(Self::Refused)
    }
}

impl Serialize for Stays {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.code())
    }
}

/// How many connections were not moved, by reason.
///
/// Serialized as a map of the reasons that occurred; its text is `2 HTTP/2, 1 upgraded`.
///
/// # Examples
///
/// ```
/// use handover::{Graceful, Reason, Stays};
///
/// let graceful = Graceful::new();
/// let connection = graceful.guard();
/// graceful.drain_for(Reason::Upgrade { successor: 4711 });
/// graceful.count_stayed(Stays::Http2);
/// graceful.count_stayed(Stays::Http2);
/// drop(connection);
/// let stayed = graceful.report().expect("the drain is over").stayed;
/// assert_eq!((stayed.total(), stayed.count(Stays::Http2)), (2, 2));
/// for (why, count) in stayed.iter() {
///     println!("{count} stayed: {why}");
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stayed {
    counts: [usize; Stays::ALL.len()],
}

impl Stayed {
    /// How many stayed for this reason.
    #[must_use]
    pub fn count(&self, why: Stays) -> usize {
        self.counts[why as usize]
    }

    /// How many stayed.
    #[must_use]
    pub fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    /// The reasons that occurred, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Stays, usize)> + '_ {
        let all = Stays::ALL.iter().copied().zip(self.counts);
        all.filter(|(_, count)| *count > 0)
    }

    pub(crate) fn add(&mut self, why: Stays) {
        self.counts[why as usize] += 1;
    }
}

impl Serialize for Stayed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (why, count) in self.iter() {
            map.serialize_entry(why.code(), &count)?;
        }
        map.end()
    }
}

impl fmt::Display for Stayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (why, count)) in self.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_occurred_is_told() {
        let mut stayed = Stayed::default();
        assert_eq!((stayed.total(), stayed.to_string().as_str()), (0, ""));
        for why in [Stays::Http2, Stays::Framework, Stays::Http2] {
            stayed.add(why);
        }
        assert_eq!(stayed.to_string(), "2 HTTP/2, 1 in the framework's loop");
        let json = serde_json::to_string(&stayed).unwrap();
        assert_eq!(json, r#"{"http2":2,"framework":1}"#);
        assert_eq!(stayed.count(Stays::Http2), 2);
        assert_eq!(stayed.count(Stays::Tls), 0);
    }

    #[cfg(all(unix, feature = "process"))]
    #[test]
    fn a_reason_of_a_later_release_is_a_refusal() {
        for code in ["", "refused", "moon_phase", "http2"] {
            assert_eq!(Stays::refused(code), Stays::Refused);
        }
        for why in [Stays::RefusedDescriptors, Stays::RefusedListener] {
            assert_eq!(Stays::refused(why.code()), why);
        }
    }
}
