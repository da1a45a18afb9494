//! One generation, as a test sees it.

use std::{fmt, sync::Arc};

use super::seat::Seat;
use crate::{Graceful, Phase, accept::Address};

/// One generation of a [`Service`](super::Service) under test. All clones are the same.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::error::Error;
///
/// use handover::{GenerationBuilder, testing::Service};
///
/// async fn program(builder: GenerationBuilder) -> Result<(), Box<dyn Error + Send + Sync>> {
///     let generation = builder.start()?;
///     let _listener = generation.listen("web=127.0.0.1:0").await?;
///     generation.ready().await?;
///     generation.graceful().drained().await;
///     Ok(())
/// }
///
/// let service = Service::start(program).await?;
/// let member = service.current();
/// assert!(member.is_serving() && member.number() == 0);
/// println!("it listens on {}", member.address("web").ok_or("it has no such listener")?);
///
/// let successor = service.upgrade().await?;
/// successor.kill();
/// member.serving().await; // again
///
/// member.graceful().drain();
/// assert!(member.ended().await.is_success());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Member(pub(super) Arc<Seat>);

impl Member {
    /// The number of the generation.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// Its token: [`drain`](Graceful::drain) is what a signal to stop does.
    #[must_use]
    pub fn graceful(&self) -> Graceful {
        self.0.graceful()
    }

    /// The address of a listener or a socket by its name, while the generation has it.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<Address> {
        let generation = self.0.generation()?;
        let registry = generation.registry();
        registry.address(name)?.parse().ok()
    }

    /// Returns true if it is ready, and neither drains nor has ended.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.0.generation().is_some_and(|generation| {
            generation.is_ready() && generation.graceful.phase() == Phase::Running
        })
    }

    /// Ends when it is ready, and serves; also when it serves again, because its successor has
    /// died. Of a generation that has ended nothing is to be expected: then this never ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn serving(&self) {
        if self.0.ready().await.is_err() {
            std::future::pending::<()>().await;
        }
        let graceful = self.graceful();
        let mut phases = graceful.phases();
        loop {
            match graceful.phase() {
                Phase::Running => return,
                Phase::Drained => return std::future::pending().await,
                _ => drop(phases.next().await),
            }
        }
    }

    /// Ends it as `kill -9` would: its tasks end where they await, its sockets are closed, and it
    /// says nothing to anybody. Code that blocks its thread goes on until it awaits.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Waits for its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn ended(&self) -> Outcome {
        self.0.ended().await
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("number", &self.number())
            .field("serving", &self.is_serving())
            .finish_non_exhaustive()
    }
}

/// How a generation ended.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover::Error> {
/// use std::error::Error;
///
/// use handover::{GenerationBuilder, testing::{Outcome, Service}};
///
/// async fn program(builder: GenerationBuilder) -> Result<(), Box<dyn Error + Send + Sync>> {
///     let generation = builder.start()?;
///     generation.ready().await?;
///     generation.graceful().draining().await;
///     Err("the disk is full".into())
/// }
///
/// let service = Service::start(program).await?;
/// service.current().graceful().drain();
/// let outcome = service.current().ended().await;
/// assert_eq!(outcome, Outcome::Failed("the disk is full".to_owned()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The program returned.
    Success,
    /// The program returned an error; this is its text.
    Failed(String),
    /// The program panicked, with this message.
    Panicked(String),
    /// It was killed, by the test or by its predecessor.
    Killed,
}

impl Outcome {
    /// Returns true if the program ended without an error.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Success
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("ended without an error"),
            Self::Failed(err) => write!(f, "ended with an error: {err}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Killed => f.write_str("was killed"),
        }
    }
}
