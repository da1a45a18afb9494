//! A layer for tonic's channels that repeats what a server did not process.
//!
//! A server that drains well loses no call: each one that it does not serve is named by its GOAWAY,
//! and the client may send it again. The gRPC libraries of other languages do so without a word.
//! tonic's channel does not: it reports such calls as `CANCELLED` or `INTERNAL`, which no common
//! retry policy repeats. [`RetryLayer`] goes around a channel and repeats them on its next
//! connection:
//!
//! ```no_run
//! use handover_tonic::client::RetryLayer;
//! use tonic::transport::Endpoint;
//! use tonic_health::pb::health_client::HealthClient;
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let channel = Endpoint::from_static("http://127.0.0.1:50051").connect_lazy();
//! let client = HealthClient::new(RetryLayer::new().layer(channel));
//! # drop(client);
//! # Ok(())
//! # }
//! ```
//!
//! # What is repeated
//!
//! | what became of the call | |
//! |---|---|
//! | it never left: its connection was closing | repeated |
//! | GOAWAY names a last stream before it | repeated |
//! | its stream was reset with `REFUSED_STREAM` | repeated |
//! | it was answered with `UNAVAILABLE`, in the headers | only [if asked to](RetryLayer::retry_unavailable): a handler may have seen it |
//! | its answer has begun | not repeated |
//! | anything else, such as a connection that broke | not repeated: nobody knows how far it came |
//!
//! So a call that a handler has seen is never repeated without being asked for, and it makes no
//! difference whether the call is idempotent. What has been sent of the request is kept until its
//! answer begins, up to a [limit](RetryLayer::buffer); this holds for streams of requests, too.

mod layer;
mod replay;
mod service;
mod verdict;

pub use self::{
    layer::RetryLayer,
    service::{CallFuture, Retry},
};
