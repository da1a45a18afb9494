//! Handover's serve loop over hyper.
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
//! | upgraded (a WebSocket) | it is the application's; it holds the drain open, and its IO fails at the cut |
//! | anything, at the cut | handlers are dropped and answered for with 503, bodies broken off, IO ended |

mod accepting;
mod body;
mod connection;
mod http1;
mod http2;
mod http2_io;
mod io;
mod linger;
mod link;
mod options;
mod pace;
mod serve;
mod service;
mod sniff;

pub use self::{
    body::RequestBody,
    serve::{Serve, ServeFuture, serve},
};
