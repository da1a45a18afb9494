//! A load client that never retries and classifies every outcome.
//!
//! A [`Storm`] runs a number of clients of several [`Kind`]s against one
//! [`Target`] until it is stopped, and counts. Requests are written and answers
//! are read here, byte by byte, over plain sockets: a pooling client library
//! would hide just those failures that a restart causes.
//!
//! # What counts as lost
//!
//! 1. Every request that was begun ends as exactly one of: a complete, correct
//!    answer, or a loss of one [`Failure`] class. `requests = ok + lost`.
//! 2. Nothing is tried a second time. After a loss the client drops its
//!    connection, waits a moment, and goes on with its next request.
//! 3. A connection that the server closed *before* the client's last look at it
//!    is "found closed", and one whose last answer said `connection: close` was
//!    "told": neither costs a request, since the client knew in time.
//! 4. Between the last look and the first byte of a request lies
//!    [`Config::rtt`]: on a network a client cannot know what the server did
//!    during the last round trip. A close that falls into it costs the request.
//! 5. A stop is clean: each client finishes the request that is under way, and
//!    every request is bounded in time, so a stop is too.
//!
//! # Examples
//!
//! ```no_run
//! use handover_tests::load::{Config, Storm, Target};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let storm = Storm::start(Config::new(Target::parse("127.0.0.1:3000")?));
//! let restart = storm.mark(1);
//! // … replace the server, wait until it is ready …
//! storm.gone(restart);
//! let report = storm.stop().await;
//! assert_eq!(report.lost(), 0, "{report}");
//! # Ok(())
//! # }
//! ```

mod body;
mod chunked;
mod client;
mod config;
mod connection;
mod event_source;
mod failure;
mod get;
mod kind;
mod latency;
mod report;
mod stats;
mod storm;
mod target;
mod timeline;

pub use self::{
    body::{Fnv1a, stream_byte, stream_len},
    config::{Clients, Config},
    connection::{Connection, Head, Look},
    event_source::EventSource,
    failure::{Failure, Loss},
    get::{Answer, get, get_on},
    kind::Kind,
    latency::{Latency, Quantiles},
    report::{GenerationReport, KindReport, MarkReport, Report, Sample},
    storm::{Mark, Snapshot, Storm},
    target::{Io, Target},
};
