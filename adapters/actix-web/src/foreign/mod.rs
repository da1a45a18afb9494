//! The other way in: actix-web's own `HttpServer`, on our listeners, with our token.
//!
//! For who has to keep it, with its parser and its settings. [`serve`] stands in for
//! `HttpServer::new` and makes one that is tracked:
//!
//! - it accepts on listeners of a [`Generation`](handover::Generation), TCP and Unix, several if need
//!   be, and not before that generation may; its applications have been made by then;
//! - its signals are off: those of the generation count;
//! - each connection and the request on it is a holder of the drain, by name, until the last byte of
//!   the answer has been given to it;
//! - while the drain lasts, answers say `Connection: close`;
//! - in an upgrade it is paused, and resumed should the successor die;
//! - it is stopped when the announce window is over, or as soon as no connection is left;
//! - at the cut handlers are answered for with 503, bodies broken off, and what is left then is ended
//!   with its workers: `ServerHandle::stop(false)` would wait for the stop that is under way;
//! - it ends with the last piece of work, not at the next look of a worker, once a second.
//!
//! [`Draining`](crate::Draining) works in its handlers.
//!
//! # What it cannot do
//!
//! | | [`crate::serve`] | here |
//! |---|---|---|
//! | an idle connection in an upgrade | moves to the successor | is told by its next answer, or closed at the end of the window; counted as [`Stays::Framework`](handover::Stays::Framework) |
//! | a request that arrives in the moment in which the window ends | is seen by a last look, and answered | gets no answer, but the end of the connection |
//! | half a request's head | is waited for, and named in the report | looks idle: is closed at the end of the window |
//! | HTTP/2 | GOAWAY | not offered: without GOAWAY each stop would lose its requests |
//! | a plain stop | serves what the kernel has queued, and accepts no more | accepts on until the window is over, or nobody is left: actix can close a listener only by stopping, and drops what a worker has not taken from its queue by then. That is waited for, but for three seconds at most where a handler holds the thread of its worker |
//! | an address that the new release no longer has | is accepted from to the end | what comes to it after the upgrade waits in vain |
//! | limits on idle and old connections | spread, so that not all come back at once | actix's own |
//!
//! # Examples
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use actix_web::{App, web};
//! use handover::Generation;
//! use handover_actix_web::foreign;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let generation = Generation::start()?;
//! let server = foreign::serve(|| App::new().route("/", web::get().to(async || "hello")))
//!     .listen(generation.listen("0.0.0.0:3000").await?)
//!     .with_graceful(generation.graceful())
//!     .http(|http| http.keep_alive(Duration::from_secs(75)))
//!     .start()
//!     .await?;
//! generation.ready().await?;
//! println!("{}", server.await?);
//! # Ok(())
//! # }
//! ```

mod acceptor;
mod application;
mod body;
mod conduct;
mod connection;
mod cut;
mod server;
mod starting;
mod workers;

pub use self::{
    application::{Application, NotStarted, Responding, Service},
    body::ResponseBody,
    server::{Server, serve},
};
