//! What is measured, one file to a question. The first row of each is what the others stand beside.

mod connection;
pub mod drain;
mod draining;
mod guard;
mod layer;
mod request;
mod servers;
#[cfg(feature = "peers")]
mod tokio_graceful;

pub use self::{
    connection::connection,
    drain::drain,
    draining::draining,
    guard::guard,
    layer::layer,
    request::{grpc, http2, new_connection, request},
    servers::{Server, grpc_servers, http1_servers, http2_servers},
};

use crate::Row;

/// Rows that answer one question.
#[derive(Debug)]
#[non_exhaustive]
pub struct Question {
    /// The question.
    pub title: &'static str,
    /// What answers it, one next to the other.
    pub rows: Vec<Row>,
}

/// All questions.
pub fn questions() -> Vec<Question> {
    [
        ("take and drop what holds a drain", guard()),
        ("is it draining?", draining()),
        (
            "a connection is tracked, waits once, and ends",
            connection(),
        ),
        ("drain a server, for each idle connection", drain()),
        ("call a service that answers at once", layer()),
        ("an HTTP/1 request on an open connection", request()),
        ("an HTTP/1 connection with one request", new_connection()),
        ("an HTTP/2 request on an open connection", http2()),
        ("a unary call of gRPC on an open connection", grpc()),
    ]
    .map(|(title, rows)| Question { title, rows })
    .into()
}
