//! What is otherwise than it was asked for.

use std::fmt;

/// An option of a socket that is not as it was asked for.
///
/// Either the kernel has a limit of its own, or the socket was inherited and the option is fixed
/// since it was opened: it takes a stop and a start to change that.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover::Error> {
/// use handover::{Generation, SocketOptions};
///
/// let generation = Generation::start()?;
/// let options = SocketOptions::new().receive_buffer(1 << 30); // more than the kernel gives
/// let listener = generation.listen_with("127.0.0.1:0", &options).await?;
/// for difference in listener.differences() {
///     let (option, asked, found) = (difference.option(), difference.asked(), difference.found());
///     println!("{option}: {asked} was asked for, it is {found}");
/// }
/// # Ok(())
/// # }
/// ```
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
