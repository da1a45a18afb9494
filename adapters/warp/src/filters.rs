//! What a handler may ask of the loop that serves it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use handover::{Address, Connection, Graceful};
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
pub fn peer() -> impl Filter<Extract = (Option<Address>,), Error = Infallible> + Copy {
    warp::ext::optional::<Arc<Connection>>()
        .map(|of: Option<Arc<Connection>>| of.map(|connection| connection.peer().clone()))
}

/// The token of the server: for handlers that end something when it drains, such as a WebSocket, a
/// stream of events or a long poll. Under a server that is not Handover's, one that never drains.
///
/// ```
/// use handover::Graceful;
/// use warp::Filter;
///
/// // A long poll that does not keep a drain waiting.
/// let route = handover_warp::graceful().then(async |graceful: Graceful| {
///     graceful.draining().await;
///     "come back"
/// });
/// # let _ = warp::service(route);
/// ```
pub fn graceful() -> impl Filter<Extract = (Graceful,), Error = Infallible> + Copy {
    warp::ext::optional::<Graceful>().map(Option::unwrap_or_default)
}
