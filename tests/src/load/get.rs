//! A single request, for tests that want one answer.

use std::time::Duration;

use super::{
    connection::{Connection, Head},
    failure::{Failure, Loss},
    target::Target,
};

/// A complete answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// Status and headers.
    pub head: Head,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks for `path` on a connection of its own, and waits for at most 10 s.
///
/// # Errors
///
/// Whatever kept the answer from being complete. Any status is an answer.
pub async fn get(target: &Target, path: &str) -> Result<Answer, Loss> {
    bounded(async { ask(&mut Connection::open(target).await?, path).await }).await
}

/// The same on an open connection, which stays open unless the answer's head says otherwise.
///
/// # Errors
///
/// As [`get`]. The connection is of no use after one.
pub async fn get_on(connection: &mut Connection, path: &str) -> Result<Answer, Loss> {
    bounded(ask(connection, path)).await
}

async fn ask(connection: &mut Connection, path: &str) -> Result<Answer, Loss> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: handover.test\r\n\r\n");
    connection.send(request.as_bytes()).await?;
    let mut body = Vec::new();
    let head = connection
        .receive(|bytes| body.extend_from_slice(bytes))
        .await?;
    Ok(Answer { head, body })
}

async fn bounded(answer: impl Future<Output = Result<Answer, Loss>>) -> Result<Answer, Loss> {
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, answer)
        .await
        .unwrap_or_else(|_| {
            Err(Loss::new(
                Failure::Timeout,
                format!("no answer in {limit:?}"),
            ))
        })
}
