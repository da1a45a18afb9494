//! What is between the two ends of a connection.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::io::ReadBuf;

use super::http2::{Call, Http2};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nhost: localhost\r\nuser-agent: costs\r\naccept: */*\r\n\r\n";

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1, one request at a time.
    Http1,
    /// HTTP/2 by prior knowledge, one stream at a time.
    Http2,
    /// A unary call of gRPC: of the standard health service.
    Grpc,
}

enum Speech {
    Http1 { is_answered: bool },
    Http2(Http2),
}

pub(super) struct Wire {
    speech: Speech,
    /// For the server to read, from `read` on.
    inbox: Vec<u8>,
    read: usize,
    answers: u64,
    hung_up: bool,
    /// What the server writes, where somebody listens in.
    transcript: Option<Vec<u8>>,
    server: Option<Waker>,
    client: Option<Waker>,
}

#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Wire>>);

impl Shared {
    pub(super) fn new(protocol: Protocol) -> Self {
        let mut inbox = Vec::new();
        let speech = match protocol {
            Protocol::Http1 => Speech::Http1 { is_answered: false },
            Protocol::Http2 => Speech::Http2(Http2::open(Call::Get, &mut inbox)),
            Protocol::Grpc => Speech::Http2(Http2::open(Call::Health, &mut inbox)),
        };
        Self(Arc::new(Mutex::new(Wire {
            speech,
            inbox,
            read: 0,
            answers: 0,
            hung_up: false,
            transcript: None,
            server: None,
            client: None,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// The client's part.
impl Wire {
    /// Sends a request. Returns how many answers there were before.
    pub(super) fn ask(&mut self) -> u64 {
        match &mut self.speech {
            Speech::Http1 { .. } => self.inbox.extend_from_slice(REQUEST),
            Speech::Http2(http2) => http2.ask(&mut self.inbox),
        }
        self.wake_server();
        self.answers
    }

    pub(super) fn poll_answered(&mut self, cx: &mut Context<'_>, before: u64) -> Poll<()> {
        if self.answers > before {
            return Poll::Ready(());
        }
        self.client = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn hang_up(&mut self) {
        self.hung_up = true;
        self.wake_server();
    }

    pub(super) fn listen_in(&mut self) {
        self.transcript.get_or_insert_default();
    }

    pub(super) fn heard(&mut self) -> Vec<u8> {
        self.transcript.take().unwrap_or_default()
    }

    fn wake_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.wake();
        }
    }
}

// The server's part.
impl Wire {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<()> {
        let unread = &self.inbox[self.read..];
        if !unread.is_empty() {
            let n = unread.len().min(buf.remaining());
            buf.put_slice(&unread[..n]);
            self.read += n;
            if self.read == self.inbox.len() {
                self.inbox.clear();
                self.read = 0;
            }
        } else if !self.hung_up {
            self.server = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        if let Some(transcript) = &mut self.transcript {
            transcript.extend_from_slice(bytes);
        }
        match &mut self.speech {
            Speech::Http1 { is_answered } => *is_answered = true,
            Speech::Http2(http2) => {
                if http2.hear(bytes, &mut self.inbox) {
                    self.wake_server();
                }
            }
        }
    }

    pub(super) fn flush(&mut self) {
        let is_answered = match &mut self.speech {
            Speech::Http1 { is_answered } => is_answered,
            Speech::Http2(http2) => http2.is_answered(),
        };
        if std::mem::take(is_answered) {
            self.answers += 1;
            if let Some(client) = self.client.take() {
                client.wake();
            }
        }
    }
}
