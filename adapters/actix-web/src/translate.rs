//! Between the serve loop's types and actix's, which are those of an older `http`.

use actix_http::{
    ConnectionType, HttpMessage as _, Method, Payload, Request, Response, Uri, Version,
    body::{BodySize, BoxBody, MessageBody as _},
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use handover::Graceful;
use handover_hyper::RequestBody;
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;

use crate::{
    body::ResponseBody,
    payload,
    tunnel::{self, Half, Reader},
};

/// What an upgrade takes, kept until the application has answered.
pub(crate) struct Upgrade {
    on: OnUpgrade,
    reader: oneshot::Sender<Half>,
    graceful: Graceful,
}

/// A request that the older types cannot express.
pub(crate) struct Refusal(http::StatusCode);

impl Refusal {
    const BAD_REQUEST: Self = Self(http::StatusCode::BAD_REQUEST);

    pub(crate) fn answer(&self) -> http::Response<ResponseBody> {
        let mut response = http::Response::new(ResponseBody::empty());
        *response.status_mut() = self.0;
        response
    }
}

pub(crate) fn request(
    mut request: http::Request<RequestBody>,
) -> Result<(Request, Option<Upgrade>), Refusal> {
    let asks = may_leave_http(&request);
    let on = asks.then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let graceful = body.graceful().clone();
    let connection = body.connection().clone();
    let (reader, upgrade) = match on {
        Some(on) => {
            let (sender, receiver) = oneshot::channel();
            let upgrade = Upgrade {
                on,
                reader: sender,
                graceful: graceful.clone(),
            };
            (Some(Reader::Waiting(receiver)), Some(upgrade))
        }
        None => (None, None),
    };
    let is_empty = http_body::Body::is_end_stream(&body) && reader.is_none();
    let mut request = Request::with_payload(match is_empty {
        true => Payload::None,
        false => Payload::Stream {
            payload: Box::pin(payload::Payload::new(body, reader)) as _,
        },
    });
    let head = request.head_mut();
    head.method =
        Method::from_bytes(parts.method.as_str().as_bytes()).map_err(|_| Refusal::BAD_REQUEST)?;
    head.uri = uri(&parts.uri)?;
    head.version = match parts.version {
        http::Version::HTTP_09 => Version::HTTP_09,
        http::Version::HTTP_10 => Version::HTTP_10,
        http::Version::HTTP_2 => Version::HTTP_2,
        http::Version::HTTP_3 => Version::HTTP_3,
        _ => Version::HTTP_11,
    };
    head.peer_addr = connection.peer().as_socket_addr();
    copy_headers(&parts.headers, &mut head.headers)?;
    if parts.version < http::Version::HTTP_2 {
        head.set_connection_type(connection_type(&head.headers, parts.version, asks));
    }
    let mut extensions = request.extensions_mut();
    extensions.insert(graceful);
    extensions.insert(connection);
    drop(extensions);
    Ok((request, upgrade))
}

/// Whether what comes behind the head may be another protocol's, if the application agrees.
///
/// A body is read to its end first, which is not that of a tunnel: who offers a newer HTTP with any
/// request, as Java's client does, is served by the one it has (RFC 9110, section 7.8).
fn may_leave_http(request: &http::Request<RequestBody>) -> bool {
    let offers = request.headers().get_all(http::header::UPGRADE).iter();
    let mut offers = offers.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    request.version() == http::Version::HTTP_11
        && http_body::Body::is_end_stream(request.body())
        && offers.any(|offer| !offer.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

fn uri(uri: &http::Uri) -> Result<Uri, Refusal> {
    let parsed = match (uri.authority(), uri.path_and_query()) {
        (None, Some(path)) => Uri::try_from(path.as_str()),
        _ => Uri::try_from(uri.to_string()),
    };
    parsed.map_err(|_| Refusal::BAD_REQUEST)
}

fn copy_headers(from: &http::HeaderMap, to: &mut HeaderMap) -> Result<(), Refusal> {
    for (name, value) in from {
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        let value = HeaderValue::from_bytes(value.as_bytes());
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Refusal::BAD_REQUEST);
        };
        to.append(name, value);
    }
    Ok(())
}

/// What actix's own parser says of it.
fn connection_type(headers: &HeaderMap, version: http::Version, asks: bool) -> ConnectionType {
    let has = |token: &str| {
        headers.get_all(header::CONNECTION).any(|value| {
            let mut tokens = value.to_str().unwrap_or_default().split(',');
            tokens.any(|one| one.trim().eq_ignore_ascii_case(token))
        })
    };
    match version {
        _ if asks && has("upgrade") => ConnectionType::Upgrade,
        _ if has("close") => ConnectionType::Close,
        http::Version::HTTP_10 | http::Version::HTTP_09 if !has("keep-alive") => {
            ConnectionType::Close
        }
        _ => ConnectionType::KeepAlive,
    }
}

pub(crate) fn response(
    response: Response<BoxBody>,
    upgrade: Option<Upgrade>,
) -> http::Response<ResponseBody> {
    let mut answer = http::Response::new(());
    let status = http::StatusCode::from_u16(response.status().as_u16());
    *answer.status_mut() = status.unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    // A length that was written by hand counts only where nothing better is known.
    let knows_length = response.body().size() != BodySize::Stream;
    let headers = answer.headers_mut();
    headers.reserve(response.headers().len());
    for (name, value) in response.headers().iter() {
        let framing =
            *name == header::CONTENT_LENGTH && knows_length || *name == header::TRANSFER_ENCODING;
        if framing {
            continue;
        }
        let name = http::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = http::HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let connection = match response.head().connection_type() {
        ConnectionType::Close => Some("close"),
        ConnectionType::Upgrade => Some("upgrade"),
        ConnectionType::KeepAlive => None,
    };
    if let Some(connection) = connection {
        let value = http::HeaderValue::from_static(connection);
        headers.insert(http::header::CONNECTION, value);
    }
    let body = response.into_body();
    if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return answer.map(|()| ResponseBody::new(body));
    }
    if let Some(Upgrade {
        on,
        reader,
        graceful,
    }) = upgrade
    {
        tokio::task::spawn_local(tunnel::pump(on, body, reader, graceful));
    }
    answer.map(|()| ResponseBody::empty())
}
