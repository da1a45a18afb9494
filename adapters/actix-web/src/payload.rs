//! The body of a request, from the serve loop's type to actix's stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_core::Stream;
use handover_hyper::RequestBody;
use http_body::Body as _;

use crate::tunnel::Reader;

/// What a handler reads: the body, and after an upgrade whatever comes.
pub(crate) struct Payload {
    body: RequestBody,
    // Where the request asks for an upgrade.
    tunnel: Option<Reader>,
}

impl Payload {
    pub(crate) fn new(body: RequestBody, tunnel: Option<Reader>) -> Self {
        Self { body, tunnel }
    }
}

impl Stream for Payload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.body.is_end_stream() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // actix knows no trailers.
                    if let Ok(bytes) = frame.into_data() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Some(Err(error)) => {
                    let error = PayloadError::Incomplete(Some(io::Error::other(error)));
                    return Poll::Ready(Some(Err(error)));
                }
                None => break,
            }
        }
        match &mut self.tunnel {
            Some(tunnel) => tunnel.poll_next(cx).map_err(PayloadError::Io),
            None => Poll::Ready(None),
        }
    }
}
