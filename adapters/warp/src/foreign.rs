//! The other way in: warp's own serve loop, on our socket, with our token.
//!
//! For who has to keep `warp::serve(filter).incoming(listener).graceful(signal).run()`. Give it four
//! things:
//!
//! - [`tcp`] or [`unix`], a listener of a generation as one that warp takes, once this generation
//!   may accept;
//! - [`announcing`], which tells clients of a drain by `Connection: close`;
//! - [`signal`], which stops warp once the clients had their time to be told;
//! - [`Graceful::track`] around it all, so that the drain waits for warp and ends on its deadline.
//!
//! What that cannot do, and [`serve`](crate::serve) can: warp's trait for what it accepts from is
//! private, and implemented for tokio's two listeners alone, so connections and requests cannot be
//! tracked. The report names no more than warp as a whole; a drain always takes the whole announce
//! window; idle connections are closed at its end without a last look, and cannot move to a
//! successor; HTTP/2 clients are told only then; a handler is not answered for at the cut; and a
//! successor that dies after the window leaves nobody who accepts.
//!
//! ```no_run
//! use handover::Generation;
//! use handover_warp::foreign;
//! use warp::Filter;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let generation = Generation::start()?;
//! let graceful = generation.graceful();
//! let listener = generation.listen("127.0.0.1:3000").await?;
//! let app = warp::any().map(|| "hello").map(foreign::announcing(&graceful));
//! let server = async {
//!     warp::serve(app)
//!         .incoming(foreign::tcp(listener).await?)
//!         .graceful(foreign::signal(&graceful))
//!         .run()
//!         .await;
//!     Ok::<_, std::io::Error>(())
//! };
//! let (ready, served) = tokio::join!(generation.ready(), graceful.track("warp", server));
//! ready?;
//! served.transpose()?;
//! println!("{}", graceful.drained().await);
//! # Ok(())
//! # }
//! ```

#[cfg(unix)]
use std::io;

use handover::Graceful;
use http::{
    StatusCode,
    header::{CONNECTION, HeaderValue},
};
use warp::{Reply, reply::Response};

/// A generation's TCP listener for `incoming`, once this generation may accept.
///
/// # Errors
///
/// If it is a Unix listener.
///
/// # Examples
///
/// ```
/// # async fn example(generation: handover::Generation) -> Result<(), Box<dyn std::error::Error>> {
/// let listener = generation.listen("127.0.0.1:3000").await?;
/// generation.ready().await?;
/// let listener: tokio::net::TcpListener = handover_warp::foreign::tcp(listener).await?;
/// println!("warp is given {}", listener.local_addr()?);
/// # Ok(())
/// # }
/// ```
#[cfg(unix)]
pub async fn tcp(mut listener: handover::Listener) -> io::Result<tokio::net::TcpListener> {
    listener.opened().await;
    let unfit = |listener| unfit(&listener, "no TCP listener: use `unix`");
    listener.into_tokio_tcp().map_err(unfit)
}

/// A generation's Unix listener for `incoming`, once this generation may accept.
///
/// # Errors
///
/// If it is a TCP listener.
///
/// # Examples
///
/// ```
/// # async fn example(generation: handover::Generation) -> Result<(), Box<dyn std::error::Error>> {
/// let listener = generation.listen("unix:/run/app.sock").await?;
/// generation.ready().await?;
/// let listener: tokio::net::UnixListener = handover_warp::foreign::unix(listener).await?;
/// println!("warp is given {:?}", listener.local_addr()?);
/// # Ok(())
/// # }
/// ```
#[cfg(unix)]
pub async fn unix(mut listener: handover::Listener) -> io::Result<tokio::net::UnixListener> {
    listener.opened().await;
    let unfit = |listener| unfit(&listener, "no Unix listener: use `tcp`");
    listener.into_tokio_unix().map_err(unfit)
}

#[cfg(unix)]
fn unfit(listener: &handover::Listener, why: &str) -> io::Error {
    let text = format!("{} is {why}", listener.name());
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// What to map each reply by, so that clients are told of a drain.
///
/// HTTP/2 has no such header; warp takes it off.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use handover::Graceful;
/// use handover_warp::foreign;
/// use warp::Filter;
///
/// let graceful = Graceful::new();
/// let _work = graceful.guard();
/// let app = warp::any().map(|| "hello").map(foreign::announcing(&graceful));
/// let answer = warp::test::request().reply(&app).await;
/// assert!(!answer.headers().contains_key("connection"));
/// graceful.drain();
/// let answer = warp::test::request().reply(&app).await;
/// assert_eq!(answer.headers()["connection"], "close");
/// # }
/// ```
pub fn announcing<R: Reply>(
    graceful: &Graceful,
) -> impl Fn(R) -> Response + Clone + Send + Sync + 'static + use<R> {
    let graceful = graceful.clone();
    move |reply| {
        let mut response = reply.into_response();
        let upgrades = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if graceful.is_draining() && !upgrades {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

/// The shutdown signal for warp's `graceful`: it ends when the announce window of the drain is over.
///
/// If a successor dies within the window, warp serves on.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
///
/// use handover::Graceful;
/// use handover_warp::foreign;
///
/// let graceful = Graceful::builder().announce(Duration::from_millis(20)).build();
/// let signal = foreign::signal(&graceful);
/// let warp = tokio::spawn(graceful.track("warp", signal));
/// graceful.drain();
/// assert_eq!(warp.await.unwrap(), Some(()));
/// # }
/// ```
pub fn signal(graceful: &Graceful) -> impl Future<Output = ()> + Send + use<> {
    let graceful = graceful.clone();
    async move { while !graceful.announced().await {} }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handover::Reason;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_was_taken_back_gives_no_signal() {
        let graceful = Graceful::new();
        let held = graceful.guard();
        let mut signal = tokio::spawn(signal(&graceful));
        graceful.drain_for(Reason::Upgrade { successor: 1 });
        tokio::task::yield_now().await;
        assert!(graceful.resume());
        let long = Duration::from_secs(60);
        assert!(timeout(long, &mut signal).await.is_err());
        graceful.drain();
        signal.await.unwrap();
        drop(held);
    }
}
