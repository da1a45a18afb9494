//! What is spoken on a connection that moves.

use std::fmt;

/// What is spoken on a connection, and in which version the state is written that goes with it.
///
/// The two generations of an upgrade are two releases of a program, and either may be the newer
/// one. A connection is adopted only by a program that has declared its protocol, in a version that
/// it can read; otherwise its predecessor keeps it.
///
/// # Examples
///
/// ```
/// use handover::accept::Protocol;
///
/// // Writes its sessions in the third form, and can still read the second.
/// const CHAT: Protocol = Protocol::new("chat", 3).since(2);
/// assert_eq!((CHAT.name(), CHAT.version()), ("chat", 3));
/// assert!(CHAT.adopts("chat", 2));
/// assert!(!CHAT.adopts("chat", 1));
/// assert!(!CHAT.adopts("chat", 4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocol {
    name: &'static str,
    version: u32,
    oldest: u32,
}

impl Protocol {
    /// HTTP/1.1 between two requests: what serve loops move by themselves, without any state.
    pub const HTTP: Self = Self::new("", 0);

    /// A protocol of this name. `version` is that of the state which goes along with a connection,
    /// and is the program's to choose. The empty name is HTTP's.
    #[must_use]
    pub const fn new(name: &'static str, version: u32) -> Self {
        Self {
            name,
            version,
            oldest: version,
        }
    }

    /// Adopts what was written in any version from this one on, too.
    #[must_use]
    pub const fn since(mut self, oldest: u32) -> Self {
        self.oldest = oldest;
        self
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The version in which state is written.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Returns true if a program that declares this protocol takes a connection of that name, with
    /// state of that version.
    #[must_use]
    pub fn adopts(&self, name: &str, version: u32) -> bool {
        self.name == name && (self.oldest..=self.version).contains(&version)
    }

    /// This protocol, as a predecessor wrote it.
    #[cfg(all(unix, feature = "process"))]
    pub(crate) fn written_in(self, version: u32) -> Self {
        Self::new(self.name, version)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            "" => f.write_str("HTTP"),
            name => write!(f, "{name}/{}", self.version),
        }
    }
}
