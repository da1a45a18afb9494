//! What a handler may ask of the loop that serves it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use handover::{Address, Connection, Draining, Graceful, Kind};
use warp::Filter;

/// The socket address of the client; `None` over a Unix socket, and under a server that is not
/// Handover's.
///
/// It stands in for `warp::addr::remote()`, which only warp's own server can serve.
///
/// ```
/// use std::net::SocketAddr;
///
/// use warp::Filter;
///
/// let route = handover_warp::remote().map(|client: Option<SocketAddr>| format!("{client:?}"));
/// # let _ = warp::service(route);
/// ```
pub fn remote() -> impl Filter<Extract = (Option<SocketAddr>,), Error = Infallible> + Copy {
    peer().map(|peer: Option<Address>| peer.as_ref().and_then(Address::as_socket_addr))
}

/// The address of the client over any socket; `None` under a server that is not Handover's.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use handover::Address;
/// use warp::Filter;
///
/// let route = handover_warp::peer().map(|peer: Option<Address>| match peer {
///     Some(peer) => format!("from {peer}"),
///     None => "from somewhere".to_owned(),
/// });
/// // Under a test there is no connection.
/// let answer = warp::test::request().reply(&route).await;
/// assert_eq!(answer.body(), "from somewhere");
/// # }
/// ```
pub fn peer() -> impl Filter<Extract = (Option<Address>,), Error = Infallible> + Copy {
    warp::ext::optional::<Arc<Connection>>()
        .map(|of: Option<Arc<Connection>>| of.map(|connection| connection.peer().clone()))
}

/// The token of the server. Under a server that is not Handover's, one that never drains.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use handover::Graceful;
/// use warp::Filter;
///
/// let route = handover_warp::graceful().map(|graceful: Graceful| match graceful.remaining() {
///     Some(left) => format!("going, in {left:?} at the latest"),
///     None => "here to stay".to_owned(),
/// });
/// let answer = warp::test::request().reply(&route).await;
/// assert_eq!(answer.body(), "here to stay");
/// # }
/// ```
pub fn graceful() -> impl Filter<Extract = (Graceful,), Error = Infallible> + Copy {
    warp::ext::optional::<Graceful>().map(Option::unwrap_or_default)
}

/// The request's view of the server's drain: for handlers that have something to end then, such as a
/// WebSocket, a stream of events or a long poll. Under a server that is not Handover's, one that never
/// comes.
///
/// ```
/// use handover::Draining;
/// use warp::Filter;
///
/// // A long poll that answers early when its server drains.
/// let route = handover_warp::draining().then(async |draining: Draining| {
///     let news = async { String::from("news") };
///     draining.or(news).await.unwrap_or_default()
/// });
/// # let _ = warp::service(route);
/// ```
pub fn draining() -> impl Filter<Extract = (Draining,), Error = Infallible> + Copy {
    warp::any()
        .and(graceful())
        .and(warp::ext::optional::<Arc<Connection>>())
        .map(|graceful, connection: Option<Arc<Connection>>| {
            let draining = Draining::new(graceful);
            match connection {
                // One with a request of its own speaks HTTP/1: over HTTP/2 it is not said to.
                Some(it) => draining.with_connection(&it, it.kind() != Kind::Request),
                None => draining,
            }
        })
}
