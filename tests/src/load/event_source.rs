//! A client of server-sent events.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::{connection::Connection, target::Target};

/// What browsers wait, or more, where a server has said nothing.
const RETRY: Duration = Duration::from_secs(3);

/// An `EventSource`, as the HTML standard has it, for events whose ids count up: how far it has come,
/// and when it is to come back.
#[derive(Debug)]
#[non_exhaustive]
pub struct EventSource {
    /// The id of the last event.
    pub last: Option<u64>,
    /// After which time it comes back.
    pub retry: Duration,
}

impl Default for EventSource {
    fn default() -> Self {
        Self {
            last: None,
            retry: RETRY,
        }
    }
}

impl EventSource {
    /// Follows the events at `path` to the clean end of the stream; `seen` gets the data of each.
    ///
    /// # Errors
    ///
    /// If the answer is no stream, an event was left out or came twice, or it ended without the time
    /// to come back.
    pub async fn follow(
        &mut self,
        target: &Target,
        path: &str,
        mut seen: impl FnMut(&str),
    ) -> anyhow::Result<()> {
        let mut connection = Connection::open(target).await?;
        let last = self.last.map(|id| format!("last-event-id: {id}\r\n"));
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{}\r\n",
            last.unwrap_or_default()
        );
        connection.send(head.as_bytes()).await?;
        let mut text = String::new();
        let mut wrong = None;
        let mut told = false;
        let received = connection.receive(|bytes| {
            text.push_str(&String::from_utf8_lossy(bytes));
            while let Some((event, rest)) = text.split_once("\n\n") {
                let mut data = None;
                for line in event.lines() {
                    let (field, value) = line.split_once(':').unwrap_or((line, ""));
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    match (field, value.parse()) {
                        ("id", Ok(id)) => {
                            if self.last.is_some_and(|last| last + 1 != id) {
                                wrong = Some((self.last, id));
                            }
                            self.last = Some(id);
                        }
                        ("retry", Ok(time)) => {
                            told = true;
                            self.retry = Duration::from_millis(time);
                        }
                        ("data", _) => data = Some(value.to_owned()),
                        _ => {}
                    }
                }
                text = rest.to_owned();
                if let Some(data) = data {
                    seen(&data);
                }
            }
        });
        let head = received.await.context("the stream has broken")?;
        ensure!(head.status == 200, "{head:?}");
        ensure!(wrong.is_none(), "an event after another: {wrong:?}");
        ensure!(told, "the end came without a time to come back");
        Ok(())
    }
}
