//! What an upgrade gives to who asked for it.

use std::fmt;

/// The process that has taken over.
///
/// # Examples
///
/// ```
/// # async fn example(generation: handover::Generation) -> Result<(), handover::Error> {
/// let successor: handover::Successor = generation.upgrade().await?;
/// assert_eq!(successor.generation(), generation.number() + 1);
/// println!("{successor}, process {}", successor.pid());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Successor {
    pid: u32,
    generation: u64,
}

impl Successor {
    pub(crate) fn new(pid: u32, generation: u64) -> Self {
        Self { pid, generation }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The number of its generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl fmt::Display for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} (pid {})", self.generation, self.pid)
    }
}
