//! The shape of `warp::serve`, on Handover's loop.

use std::{convert::Infallible, io, net::SocketAddr};

use handover_hyper::{RequestBody, Serve};
use http::Request;
use tokio::net::TcpListener;
use tower_service::Service;
use warp::{Filter, Reply, reply::Response};

/// Serves a filter, as `warp::serve` does, until its drain is over.
///
/// ```no_run
/// use handover::Graceful;
/// use warp::Filter;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let graceful = Graceful::new();
/// let hello = warp::path!("hello" / String).map(|name| format!("hello, {name}\n"));
/// let report = handover_warp::serve(hello)
///     .bind(([127, 0, 0, 1], 3030))
///     .await?
///     .with_graceful(graceful)
///     .await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
pub fn serve<F>(filter: F) -> Server<F>
where
    F: Filter<Extract: Reply> + Clone + Send + Sync + 'static,
{
    Server { filter }
}

/// A filter that is to be served; made by [`serve`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::Graceful;
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
/// use warp::Filter;
///
/// let graceful = Graceful::new();
/// let hello = handover_warp::serve(warp::any().map(|| "hello"));
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let address = listener.local_addr()?;
/// let server = hello.incoming(listener).with_graceful(graceful.clone());
/// let server = tokio::spawn(server.into_future());
///
/// let mut client = TcpStream::connect(address).await?;
/// client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert!(answer.ends_with("hello"), "{answer}");
///
/// graceful.drain();
/// assert!(server.await??.is_complete());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "servers do nothing unless they are given a listener and awaited"]
pub struct Server<F> {
    filter: F,
}

impl<F> Server<F>
where
    F: Filter<Extract: Reply> + Clone + Send + Sync + 'static,
{
    /// Binds a TCP address and does everything: see [`run`](crate::run()), which also takes a name or
    /// the path of a Unix socket.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on, or what a predecessor or supervisor left cannot be
    /// used. Where warp's own `run` panics.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use warp::Filter;
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<(), handover::Error> {
    ///     let hello = warp::any().map(|| "hello");
    ///     let report = handover_warp::serve(hello).run(([127, 0, 0, 1], 3030)).await?;
    ///     println!("{report}");
    ///     Ok(())
    /// }
    /// ```
    #[cfg(unix)]
    pub async fn run(
        self,
        address: impl Into<SocketAddr>,
    ) -> Result<handover::Report, handover::Error> {
        crate::run(address.into(), self.filter).await
    }

    /// Binds a TCP address, without any hand-over.
    ///
    /// # Errors
    ///
    /// If it cannot be listened on. Where warp's own `bind` panics.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example() -> std::io::Result<()> {
    /// use handover::Graceful;
    /// use warp::Filter;
    ///
    /// let hello = handover_warp::serve(warp::any().map(|| "hello"));
    /// let server = hello.bind(([127, 0, 0, 1], 3030)).await?;
    /// let report = server.with_graceful(Graceful::new()).await?;
    /// println!("{report}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind(
        self,
        address: impl Into<SocketAddr>,
    ) -> io::Result<
        Serve<
            TcpListener,
            impl Service<
                Request<RequestBody>,
                Response = Response,
                Error = Infallible,
                Future: Send + 'static,
            > + Clone
            + Send
            + 'static,
        >,
    > {
        let listener = TcpListener::bind(address.into()).await?;
        Ok(self.incoming(listener))
    }

    /// Serves on a listener: one of a [`Generation`](handover::Generation), or any other
    /// [`Accept`](handover::Accept).
    ///
    /// Go on with [`Serve::with_graceful`] and await it.
    pub fn incoming<A: handover::Accept>(
        self,
        listener: A,
    ) -> Serve<
        A,
        impl Service<
            Request<RequestBody>,
            Response = Response,
            Error = Infallible,
            Future: Send + 'static,
        >
        + Clone
        + Send
        + 'static
        + use<A, F>,
    > {
        handover_hyper::serve(listener, warp::service(self.filter))
    }
}
