//! What can be said of a call that has failed, or was answered.

use std::{error::Error, time::Duration};

use http::HeaderMap;
use tonic::{Code, ConnectError, Status};

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No handler has seen it.
    Unprocessed,
    /// Nobody was there, or the server says that it is not available; with its word on when to
    /// try again, if it had one.
    Unavailable(Option<Duration>),
    /// Anything else, and what must not be repeated.
    Final,
}

pub(super) fn of_error(error: &(dyn Error + 'static)) -> Verdict {
    let mut next = Some(error);
    while let Some(error) = next {
        // hyper says "canceled" of requests that its connection has not taken, only.
        let unsent = error.downcast_ref().is_some_and(hyper::Error::is_canceled);
        if unsent || error.downcast_ref().is_some_and(is_unprocessed) {
            return Verdict::Unprocessed;
        }
        if error.is::<ConnectError>() {
            return Verdict::Unavailable(None);
        }
        next = error.source();
    }
    Verdict::Final
}

/// h2 fails a stream with the peer's GOAWAY only if that leaves it out.
fn is_unprocessed(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || is_refused)
}

/// The answer's headers hold its status if there is nothing else to it.
pub(super) fn of_headers(headers: &HeaderMap) -> Verdict {
    let Some(status) = Status::from_header_map(headers) else {
        return Verdict::Final;
    };
    if status.code() != Code::Unavailable {
        return Verdict::Final;
    }
    match headers.get("grpc-retry-pushback-ms") {
        None => Verdict::Unavailable(None),
        Some(millis) => match millis.to_str().map(str::parse) {
            Ok(Ok(millis)) => Verdict::Unavailable(Some(Duration::from_millis(millis))),
            // Negative, or nonsense: not again.
            _ => Verdict::Final,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    #[test]
    fn answers_are_judged_by_their_status() {
        let unavailable = ("grpc-status", "14");
        let pushback = |text| ("grpc-retry-pushback-ms", text);
        for (pairs, verdict) in [
            (vec![], Verdict::Final),
            (vec![("grpc-status", "0")], Verdict::Final),
            (vec![("grpc-status", "13")], Verdict::Final),
            (vec![unavailable], Verdict::Unavailable(None)),
            (
                vec![unavailable, pushback("250")],
                Verdict::Unavailable(Some(Duration::from_millis(250))),
            ),
            (vec![unavailable, pushback("-1")], Verdict::Final),
            (vec![unavailable, pushback("soon")], Verdict::Final),
        ] {
            assert_eq!(of_headers(&headers(&pairs)), verdict, "{pairs:?}");
        }
    }

    #[test]
    fn a_reset_of_ones_own_proves_nothing() {
        for reason in [h2::Reason::REFUSED_STREAM, h2::Reason::CANCEL] {
            assert_eq!(of_error(&h2::Error::from(reason)), Verdict::Final);
        }
    }
}
