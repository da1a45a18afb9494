//! Several generations of a service in one process, for the tests of a program.
//!
//! What is under test is the program's own code, from the start of its [`Generation`] to the end of
//! its drain: a function that is given a [`GenerationBuilder`]. Its `main` calls it with
//! [`Generation::builder`], a test gives it to [`Service::start`]. Each generation then runs in a
//! thread, with a runtime of its own, and nearly everything is real: the channel, the sockets and
//! the state that pass over it, readiness, the commit, probation, connections that move.
//!
//! | | in a test |
//! |---|---|
//! | signals, the pid file, the service manager, the environment | left alone: they are the process's |
//! | standard error | the process's, not carried by the predecessor |
//! | the pid of each generation | that of the process |
//! | [`Member::kill`] | tasks end where they await, sockets are closed, and no goodbye is said |
//!
//! [`Generation`]: crate::Generation
//! [`Generation::builder`]: crate::Generation::builder
//! [`GenerationBuilder`]: crate::GenerationBuilder
//!
//! # Examples
//!
//! ```
//! use std::{error::Error, io};
//!
//! use handover::{GenerationBuilder, testing::{Member, Service}};
//! use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpStream};
//!
//! // The program: it tells its number to whoever connects.
//! async fn program(builder: GenerationBuilder) -> Result<(), Box<dyn Error + Send + Sync>> {
//!     let generation = builder.start()?;
//!     let mut listener = generation.listen("web=127.0.0.1:0").await?;
//!     let number = u8::try_from(generation.number())?;
//!     tokio::spawn(async move {
//!         while let Ok((mut stream, _)) = listener.accept().await {
//!             let _ = stream.write_all(&[number]).await;
//!         }
//!     });
//!     generation.ready().await?;
//!     generation.graceful().drained().await;
//!     Ok(())
//! }
//!
//! async fn ask(member: &Member) -> io::Result<u8> {
//!     let address = member.address("web").ok_or(io::ErrorKind::NotFound)?;
//!     TcpStream::connect(address.to_string()).await?.read_u8().await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn Error>> {
//! let service = Service::start(program).await?;
//! let first = service.current();
//! assert_eq!(ask(&first).await?, 0);
//!
//! let second = service.upgrade().await?;
//! assert_eq!(ask(&second).await?, 1);
//!
//! // The new one dies while the old one is still there to serve again.
//! second.kill();
//! first.serving().await;
//! assert_eq!(ask(&first).await?, 0);
//!
//! first.graceful().drain();
//! assert!(first.ended().await.is_success());
//! # Ok(())
//! # }
//! ```

mod member;
mod seat;
mod service;

pub(crate) use self::seat::{Seat, Thread};
pub use self::{
    member::{Member, Outcome},
    service::{Program, Service},
};
