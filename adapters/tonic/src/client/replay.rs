//! A request body that can be sent again.
//!
//! # Invariants
//!
//! 1. Only the newest attempt reads the inner body; an older one that is still polled gets an
//!    error.
//! 2. While it can be sent again, all frames that were read from the inner body are kept. An
//!    attempt sends these first, and then reads on.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};

pub(super) struct Replay {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    inner: Body,
    has_ended: bool,
    kept: Vec<Bytes>,
    size: usize,
    limit: usize,
    keeps: bool,
    attempt: u32,
}

impl Replay {
    pub(super) fn new(inner: Body, limit: usize) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                has_ended: inner.is_end_stream(),
                inner,
                kept: Vec::new(),
                size: 0,
                limit,
                keeps: true,
                attempt: 0,
            })),
        }
    }

    /// Whether all of it is still there.
    pub(super) fn can_replay(&self) -> bool {
        lock(&self.shared).keeps
    }

    /// The body, from its beginning.
    pub(super) fn attempt(&self) -> Attempt {
        let mut shared = lock(&self.shared);
        shared.attempt += 1;
        Attempt {
            shared: self.shared.clone(),
            attempt: shared.attempt,
            next: 0,
        }
    }

    /// It will not be sent again; nothing more is kept.
    pub(super) fn commit(&self) {
        lock(&self.shared).keeps = false;
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Attempt {
    shared: Arc<Mutex<Shared>>,
    attempt: u32,
    // Of what is kept.
    next: usize,
}

impl Shared {
    fn keep(&mut self, data: &Bytes) {
        self.size += data.len();
        self.keeps &= self.size <= self.limit;
        if self.keeps {
            self.kept.push(data.clone());
        }
    }
}

impl http_body::Body for Attempt {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let mut shared = lock(&this.shared);
        if shared.attempt != this.attempt {
            let status = Status::cancelled("this attempt was given up");
            return Poll::Ready(Some(Err(status)));
        }
        if let Some(data) = shared.kept.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if shared.has_ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut shared.inner).poll_frame(cx));
        shared.has_ended = frame.is_none() || shared.inner.is_end_stream();
        match &frame {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) => {
                    if shared.keeps {
                        shared.keep(data);
                        this.next = shared.kept.len();
                    }
                }
                // gRPC's requests have no trailers.
                None => shared.keeps = false,
            },
            Some(Err(_)) => shared.keeps = false,
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let shared = lock(&self.shared);
        shared.has_ended && self.next >= shared.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    fn body(pieces: &'static [&'static str]) -> Body {
        let frames = pieces
            .iter()
            .map(|piece| Ok::<_, Status>(Frame::data(Bytes::from_static(piece.as_bytes()))));
        Body::new(StreamBody::new(stream::iter(frames)))
    }

    async fn next(attempt: &mut Attempt) -> Option<Result<Bytes, Status>> {
        let frame = poll_fn(|cx| Pin::new(&mut *attempt).poll_frame(cx)).await;
        frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
    }

    async fn rest(attempt: &mut Attempt) -> String {
        let mut all = String::new();
        while let Some(data) = next(attempt).await {
            all += std::str::from_utf8(&data.unwrap()).unwrap();
        }
        all
    }

    #[tokio::test]
    async fn each_attempt_sends_all_of_it() {
        let replay = Replay::new(body(&["one ", "two ", "three"]), 100);
        let mut first = replay.attempt();
        assert_eq!(next(&mut first).await.unwrap().unwrap(), "one ");
        let mut second = replay.attempt();
        assert!(next(&mut first).await.unwrap().is_err(), "it is given up");
        assert_eq!(rest(&mut second).await, "one two three");
        assert!(replay.can_replay());
        assert_eq!(rest(&mut replay.attempt()).await, "one two three");
    }

    #[tokio::test]
    async fn what_is_too_long_is_sent_once() {
        let replay = Replay::new(body(&["one ", "two ", "three"]), 8);
        let mut only = replay.attempt();
        assert_eq!(next(&mut only).await.unwrap().unwrap(), "one ");
        assert_eq!(next(&mut only).await.unwrap().unwrap(), "two ");
        assert!(replay.can_replay());
        assert_eq!(rest(&mut only).await, "three");
        assert!(!replay.can_replay());
    }

    #[tokio::test]
    async fn a_second_attempt_may_be_the_last() {
        let replay = Replay::new(body(&["one ", "two ", "three"]), 100);
        let mut first = replay.attempt();
        next(&mut first).await.unwrap().unwrap();
        next(&mut first).await.unwrap().unwrap();
        let mut second = replay.attempt();
        assert_eq!(next(&mut second).await.unwrap().unwrap(), "one ");
        replay.commit();
        assert_eq!(rest(&mut second).await, "two three");
        assert!(!replay.can_replay());
    }
}
