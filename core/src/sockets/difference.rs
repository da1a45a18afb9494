//! What is otherwise than it was asked for.

use std::fmt;

/// An option of a socket that is not as it was asked for.
///
/// Either the kernel has a limit of its own, or the socket was inherited and the option is fixed
/// since it was opened: it takes a stop and a start to change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    option: &'static str,
    asked: String,
    found: String,
}

impl Difference {
    pub(crate) fn new(option: &'static str, asked: impl ToString, found: impl ToString) -> Self {
        Self {
            option,
            asked: asked.to_string(),
            found: found.to_string(),
        }
    }

    /// The option, in words: `IPv6 only`.
    #[must_use]
    pub fn option(&self) -> &'static str {
        self.option
    }

    /// What was asked for.
    #[must_use]
    pub fn asked(&self) -> &str {
        &self.asked
    }

    /// What it is; or, in words, why it could not be set.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (option, asked, found) = (self.option, &self.asked, &self.found);
        write!(f, "{option}: asked for {asked}, found {found}")
    }
}
