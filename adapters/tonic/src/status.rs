//! What a client is told when its call cannot go on here.

use std::time::Duration;

use http::HeaderMap;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt};

const MESSAGE: &str = "server draining";

/// The trailer that tells clients when to retry, in milliseconds.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The status with which a stream is ended because its server drains: `UNAVAILABLE`, and in its
/// details a `google.rpc.RetryInfo` with the time after which to come back.
///
/// For handlers that end their streams themselves; [`EndOnDrain`](crate::EndOnDrain) does it for
/// others.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tonic::Code;
///
/// let status = handover_tonic::server_draining(Duration::from_secs(2));
/// assert_eq!(status.code(), Code::Unavailable);
/// assert_eq!(status.message(), "server draining");
/// ```
#[must_use]
pub fn server_draining(retry_after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(Code::Unavailable, MESSAGE, details)
}

/// The status of a call that no handler has seen. It says when to try again to clients that retry
/// such calls by policy, and does no harm to others.
pub(crate) fn refused(pushback: Duration) -> Status {
    let mut metadata = MetadataMap::new();
    let millis = u64::try_from(pushback.as_millis()).unwrap_or(u64::MAX);
    metadata.insert(PUSHBACK, MetadataValue::from(millis));
    let details = ErrorDetails::with_retry_info(Some(pushback));
    Status::with_error_details_and_metadata(Code::Unavailable, MESSAGE, details, metadata)
}

/// The status of what was under way at the deadline: whether to do it again is the client's to
/// know.
pub(crate) fn cut() -> Status {
    Status::unavailable("server stopped before the call was finished")
}

/// The trailers that say this.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Fails only for messages that are no header values; ours are.
    let _ = status.add_header(&mut trailers);
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_when_to_come_back() {
        let status = server_draining(Duration::from_millis(1500));
        assert_eq!(status.code(), Code::Unavailable);
        let info = status.get_details_retry_info().unwrap();
        assert_eq!(info.retry_delay, Some(Duration::from_millis(1500)));
        let trailers = trailers(&status);
        assert_eq!(trailers["grpc-status"], "14");
        assert!(trailers.contains_key("grpc-status-details-bin"));
        assert!(!trailers.contains_key(PUSHBACK), "it was processed");
    }

    #[test]
    fn who_retries_by_policy_is_held_back() {
        let trailers = trailers(&refused(Duration::from_secs(2)));
        assert_eq!(trailers[PUSHBACK], "2000");
    }
}
