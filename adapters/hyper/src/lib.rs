//! Handover's serve loop over hyper.
//!
//! ```no_run
//! use handover::Graceful;
//! use http::{Request, Response};
//! use handover_hyper::RequestBody;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let graceful = Graceful::new(); // or a generation's, which signals and upgrades drain
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
//! let app = tower::service_fn(async |_: Request<RequestBody>| {
//!     Ok::<_, std::convert::Infallible>(Response::new("hello".to_owned()))
//! });
//! let report = handover_hyper::serve(listener, app).with_graceful(graceful).await?;
//! println!("{report}");
//! # Ok(())
//! # }
//! ```
//!
//! [`serve`] serves any tower service on any [`Accept`](handover::Accept), HTTP/1 and HTTP/2, and
//! ends when its [`Graceful`](handover::Graceful) is drained. Each connection is tracked from
//! `accept` to its last byte. What a drain does with it:
//!
//! | the connection | what happens |
//! |---|---|
//! | nothing has come yet, or it is idle | its next request is answered with `Connection: close`; when the announce window is over it is looked at once more, and closed |
//! | half a request head has come | it is read to its end and answered, with `Connection: close` |
//! | a request is under way | it is answered, with `Connection: close` if the head was not out yet |
//! | HTTP/2 | GOAWAY and PING at once, while it is served on; it ends with its last stream, after a final GOAWAY that comes with the PING's answer, or when the announce window is over |
//! | upgraded (a WebSocket) | it is the application's; it holds the drain open, and its IO fails at the cut. A [`websocket`] is told to go; made [`movable`], it can go to the successor between two messages |
//! | anything, at the cut | handlers are dropped and answered for with 503, bodies broken off, IO ended |
//!
//! # Moving
//!
//! In an upgrade a plaintext HTTP/1.1 connection is not announced but moved: as soon as nothing is
//! owed on it, in either direction, the successor has it, with every byte that was read ahead, and
//! its client notices nothing. Who serves decides what can be moved:
//!
//! | | [`serve`], and what stands on it, on a generation's listener | `axum::serve` on `handover_axum::foreign::Incoming` | [`GracefulLayer`](handover::GracefulLayer) alone |
//! |---|---|---|---|
//! | idle, or nothing has come yet | moved | announced, then closed | announced, then closed by the framework |
//! | half a head has come | moved with its bytes | served, announced | as the framework does |
//! | a request is under way, or several are queued | answered, then moved | answered, announced | answered, announced |
//! | more than 32 KiB of a head have come | served, announced | served, announced | as the framework does |
//! | HTTP/2 | GOAWAY at once | GOAWAY at the end of the window | as the framework does |
//! | upgraded | the application's | the application's | the application's |
//! | told to close already, by age or by a lame duck | served, then closed | – | – |
//! | any listener but a generation's, TLS included | announced | announced | announced |
//! | named in the report if it stays, with the reason | yes | yes: "in the framework's loop" | no: a layer sees requests |
//!
//! How many were moved, and how many stayed for which [reason](handover::Stays), is in the
//! [`Report`](handover::Report); the log has a line for each connection that stays, at `debug`.
//!
//! **What a handler sees after it.** The peer's address is the client's; when the connection was
//! accepted and how many requests it has sent are counted on, and so is
//! [`max_connection_age`](Serve::max_connection_age). [`idle_timeout`](Serve::idle_timeout) and
//! [`header_read_timeout`](Serve::header_read_timeout) begin anew when the successor takes the
//! connection over: it gives the client the whole time. Of what a handler keeps in memory by
//! connection nothing goes along. A span that was opened in one process ends there; the
//! [context](handover::Connection::set_trace_context) that it told of goes along, for the next one's.
//!
//! **While the successor is on probation** it only holds connections on which nothing comes: it
//! watches them, and takes each over when its client sends something, all others when the probation
//! is over. Should it die, the predecessor serves them on. `GenerationBuilder::lazy_adoption` turns
//! that off.
//!
//! # Features
//!
//! None: HTTP/1 and HTTP/2 are always there, and a server chooses by
//! [`http1_only`](Serve::http1_only) and [`http2_only`](Serve::http2_only).

mod accepting;
mod adopt;
mod body;
mod connection;
mod facts;
mod frames;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod goaway_gate;
mod http1;
mod http2;
mod http2_frames;
mod http2_io;
mod io;
mod linger;
mod link;
pub mod local;
mod options;
mod pace;
mod serve;
mod service;
mod sniff;
mod upgraded;
pub mod websocket;

pub use self::{
    body::RequestBody,
    frames::FrameGate,
    goaway_gate::GoawayGate,
    serve::{Serve, ServeFuture, serve},
    upgraded::{NotMovable, movable},
};
