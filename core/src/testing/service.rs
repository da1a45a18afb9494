//! A service under test.

use std::{
    error::Error as StdError,
    fmt, io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::{Arc, Mutex},
};

use super::{Member, seat::Seat};
use crate::{
    GenerationBuilder,
    error::{Error, Kind},
    generation::{self, shared::lock},
};

/// What a program returns.
type Returned = Result<(), Box<dyn StdError + Send + Sync>>;

/// A program: from a builder to the end of its drain. Any async function of that form is one.
///
/// # Examples
///
/// With something to configure, which an async function has not:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover::Error> {
/// use std::{error::Error, future::Future, pin::Pin};
///
/// use handover::{GenerationBuilder, testing::{Program, Service}};
///
/// struct Configured {
///     address: String,
/// }
///
/// impl Program for Configured {
///     fn run(
///         &self,
///         builder: GenerationBuilder,
///     ) -> Pin<Box<dyn Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send>> {
///         let address = self.address.clone();
///         Box::pin(async move {
///             let generation = builder.start()?;
///             let _listener = generation.listen(address).await?;
///             generation.ready().await?;
///             generation.graceful().drained().await;
///             Ok(())
///         })
///     }
/// }
///
/// let service = Service::start(Configured { address: "web=127.0.0.1:0".to_owned() }).await?;
/// assert!(service.current().address("web").is_some());
/// # Ok(())
/// # }
/// ```
pub trait Program: Send + Sync + 'static {
    /// Runs one generation of it.
    fn run(&self, builder: GenerationBuilder) -> Pin<Box<dyn Future<Output = Returned> + Send>>;
}

impl<P, F> Program for P
where
    P: Fn(GenerationBuilder) -> F + Send + Sync + 'static,
    F: Future<Output = Returned> + Send + 'static,
{
    fn run(&self, builder: GenerationBuilder) -> Pin<Box<dyn Future<Output = Returned> + Send>> {
        Box::pin(self(builder))
    }
}

pub(super) struct Inner {
    program: Box<dyn Program>,
    /// All there ever were, in their order.
    seats: Mutex<Vec<Arc<Seat>>>,
}

impl Inner {
    pub(super) async fn call(&self, builder: GenerationBuilder) -> Returned {
        self.program.run(builder).await
    }

    pub(super) fn launch(
        self: &Arc<Self>,
        number: u64,
        channel: Option<OwnedFd>,
    ) -> io::Result<Arc<Seat>> {
        let seat = Seat::start(self, number, channel)?;
        lock(&self.seats).push(Arc::clone(&seat));
        Ok(seat)
    }
}

/// A program whose generations run in threads of this process: see the [module](super).
///
/// When it is dropped, what still runs is killed.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover::Error> {
/// use std::error::Error;
///
/// use handover::{GenerationBuilder, testing::Service};
///
/// async fn program(builder: GenerationBuilder) -> Result<(), Box<dyn Error + Send + Sync>> {
///     let generation = builder.start()?;
///     generation.ready().await?;
///     generation.graceful().drained().await;
///     Ok(())
/// }
///
/// let service = Service::start(program).await?;
/// let successor = service.upgrade().await?;
/// assert_eq!(service.current().number(), successor.number());
/// assert_eq!(service.members().len(), 2);
/// # Ok(())
/// # }
/// ```
pub struct Service(Arc<Inner>);

impl Service {
    /// Starts the first generation, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If the program ends before it is ready.
    pub async fn start(program: impl Program) -> Result<Self, Error> {
        let service = Self(Arc::new(Inner {
            program: Box::new(program),
            seats: Mutex::new(Vec::new()),
        }));
        let failed = |err| Error::io(Kind::Spawn, "cannot start a thread for a generation", err);
        let seat = service.0.launch(0, None).map_err(failed)?;
        match seat.ready().await {
            Ok(()) => Ok(service),
            Err(outcome) => {
                let message = format!("the program {outcome}, before it was ready");
                Err(Error::new(Kind::Failed, message))
            }
        }
    }

    /// The newest generation that serves; if none does, the newest that there is.
    #[must_use]
    pub fn current(&self) -> Member {
        let seats = lock(&self.0.seats).clone();
        let serving = |seat: &&Arc<Seat>| Member(Arc::clone(seat)).is_serving();
        let found = seats.iter().rev().find(serving).or(seats.last());
        // `start` has made one.
        Member(Arc::clone(found.expect("a service has a generation")))
    }

    /// Every generation that was ever started, in their order: also those that failed.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        lock(&self.0.seats).iter().cloned().map(Member).collect()
    }

    /// Upgrades the [current](Self::current) generation, and waits until its successor serves.
    ///
    /// # Errors
    ///
    /// As for [`Generation::upgrade`](crate::Generation::upgrade).
    ///
    /// # Cancel safety
    ///
    /// Once begun the upgrade goes on, even if the future is dropped.
    pub async fn upgrade(&self) -> Result<Member, Error> {
        let current = self.current();
        let Some(generation) = current.0.generation() else {
            return Err(Error::new(Kind::Draining, "the generation has ended"));
        };
        generation::upgrade(&generation).await?;
        let number = current.number() + 1;
        let mut members = self.members().into_iter();
        let found = members.rfind(|member| member.number() == number);
        found.ok_or_else(|| Error::new(Kind::Failed, "the successor has gone"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for seat in lock(&self.0.seats).iter() {
            seat.kill();
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("members", &self.members())
            .finish_non_exhaustive()
    }
}
