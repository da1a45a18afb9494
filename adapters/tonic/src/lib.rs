//! Handover for tonic: a gRPC server that stops, and is replaced, without a client noticing.
//!
//! ```no_run
//! use tonic::service::Routes;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), handover::Error> {
//!     // Any service that tonic has generated comes here: `Routes::new(GreeterServer::new(..))`.
//!     let routes = Routes::new(handover_tonic::health());
//!     handover_tonic::run("0.0.0.0:50051", routes).await?;
//!     Ok(())
//! }
//! ```
//!
//! - [`run`] is the whole of it in one line: signals, inherited sockets, readiness, upgrade, drain.
//! - [`serve`] serves tonic's routes on Handover's loop, for who wires the parts themselves.
//! - [`foreign`] is for who has to keep tonic's own `Server`, and says what that cannot do.
//! - [`health()`] is the standard health service, which follows the drain by itself.
//! - [`EndOnDrain`] ends a server stream between two messages, so that its client can go on
//!   elsewhere.
//! - [`client`] is a layer for tonic's channels that repeats what a server did not process.
//!
//! # A drain, as clients see it
//!
//! 1. A service that stops is `NOT_SERVING`, by every name, in every open `Watch`. In an upgrade it
//!    stays `SERVING`: its address is served by the successor.
//! 2. Each connection gets GOAWAY with the highest stream id, and a PING: at once, or, where there
//!    are more than a hundred, in its turn within half the announce window. Until then it is served
//!    as ever, and calls that were on their way are still served after it.
//! 3. With the answer to the PING, or when the announce window is over, comes the final GOAWAY. No
//!    call that it leaves out was looked at, and clients repeat those elsewhere.
//! 4. Health `Watch` and reflection streams that a client has not left a second after its GOAWAY are
//!    ended with `UNAVAILABLE`. Streams of the application go on, unless they are
//!    [made to end](EndOnDrain), which they are after the GOAWAY, too, or watch the
//!    [token](graceful) themselves.
//! 5. A connection is closed after its last stream, and not before its client has had all of it.
//! 6. At the deadline, calls that have no answer and streams that have not ended get `UNAVAILABLE`,
//!    with trailers.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `log` (on) | [`run`] writes its log to standard error where the program has set up none |
//! | `tls` | [`run_tls`](https://docs.rs/handover-tls): TLS by rustls |
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod client;
pub mod foreign;

mod app;
mod body;
mod health;
mod layer;
mod moment;
mod request;
#[cfg(unix)]
mod run;
mod service;
mod status;
mod stream;

use handover::{Accept, Graceful};
use handover_hyper::Serve;
use http::Request;
use tonic::body::Body;
use tower_service::Service;

#[cfg(unix)]
pub use self::run::run;
#[cfg(feature = "tls")]
pub use self::run::run_tls;
pub use self::{
    app::{App, AppFuture, GrpcBody},
    body::ResponseBody,
    health::{Health, WatchStream, health},
    layer::DrainLayer,
    service::{DrainService, ResponseFuture},
    status::server_draining,
    stream::EndOnDrain,
};

/// How long nobody has to say anything: gRPC keeps channels open that are not used.
const FOREVER: std::time::Duration = std::time::Duration::MAX;

/// Serves gRPC on a listener until its drain is over: HTTP/2 by prior knowledge.
///
/// `routes` is tonic's `Routes`, a single service as tonic generates it, or any tower service for
/// tonic's requests, with the layers of your choice around it. What tonic's `Server` adds to that
/// is here, too: `remote_addr`, the client's `grpc-timeout`, and errors that become a status. Other
/// settings of HTTP/2 are set with [`Serve::http2`], and the age of connections with
/// [`Serve::max_connection_age`].
///
/// ```no_run
/// use handover::Graceful;
/// use tonic::service::Routes;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let graceful = Graceful::new();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:50051").await?;
/// let routes = Routes::new(handover_tonic::health());
/// let report = handover_tonic::serve(listener, routes)
///     .with_graceful(graceful)
///     .await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
pub fn serve<A, S>(listener: A, routes: S) -> Serve<A, App<S>>
where
    A: Accept,
    S: Service<Request<Body>>,
{
    let local = listener.local_addr().ok();
    handover_hyper::serve(listener, App::new(routes))
        .with_connection_extensions(app::connect_info(local))
        .http2_only()
        .http2(|http2| {
            // As gRPC has it: a client's streams are limited by the client.
            http2.max_concurrent_streams(None);
        })
        .idle_timeout(FOREVER)
}

/// The token of the service that this request came to.
///
/// A handler that takes long or streams without end can watch the drain with it:
/// `graceful(&request).draining().await`. It is there under [`serve`], and under tonic's own server
/// with [`DrainLayer`]; elsewhere it is a token that never drains.
///
/// ```
/// use tonic::{Request, Response, Status};
///
/// async fn slow(request: Request<()>) -> Result<Response<&'static str>, Status> {
///     let graceful = handover_tonic::graceful(&request);
///     tokio::select! {
///         answer = async { "computed" } => Ok(Response::new(answer)),
///         () = graceful.cutting() => Err(Status::unavailable("out of time")),
///     }
/// }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap()
/// #     .block_on(slow(Request::new(()))).unwrap();
/// ```
#[must_use]
pub fn graceful<T>(request: &tonic::Request<T>) -> Graceful {
    let token = request.extensions().get::<Graceful>();
    token.cloned().unwrap_or_default()
}
