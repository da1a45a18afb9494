//! The HTTP surface of the reference servers, as filters of warp.

use std::{convert::Infallible, future::pending};

use bytes::Buf;
use futures_util::{Stream, StreamExt, stream};
use handover::Draining;
use handover_warp::{sse, ws};
use warp::{
    Filter, Rejection, Reply,
    http::{HeaderName, HeaderValue, StatusCode},
    reply::Response,
    sse::Event,
    ws::Ws,
};

use super::surface::{Info, Letters, Pace, Slow, Upload, ticks};

/// The routes of the reference servers. Every answer, also an error, carries `x-pid` and
/// `x-generation`.
///
/// `/ws` and `/sse` end when the server drains, if it is one of Handover's.
pub fn filter(
    info: Info,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let page = warp::path::end().map(move || info.page());
    let slow = warp::path!("slow")
        .and(warp::query())
        .then(move |slow: Slow| async move {
            slow.wait().await;
            info.page()
        });
    let letters = warp::path!("stream").and(warp::query()).map(letters);
    let upload = warp::path!("upload")
        .and(warp::post())
        .and(warp::body::stream())
        .then(upload);
    let websocket = warp::path!("ws")
        .and(handover_warp::draining())
        .and(warp::ws())
        .map(|draining: Draining, upgrade: Ws| {
            upgrade.on_upgrade(async move |socket| echo(ws::graceful(socket, &draining)).await)
        });
    let events = warp::path!("sse")
        .and(warp::query())
        .and(warp::header::optional("last-event-id"))
        .and(handover_warp::draining())
        .map(move |pace: Pace, last: Option<String>, draining| {
            let padding = pace.padding();
            let events = ticks(&pace, last.as_deref()).map(move |id| {
                let event = match padding.as_str() {
                    "" => Event::default(),
                    padding => Event::default().comment(padding),
                };
                let event = event.id(id.to_string());
                Ok::<_, Infallible>(event.data(info.pid.to_string()))
            });
            sse::graceful(warp::sse::reply(events), &draining)
        });
    let hold = warp::path!("hold").then(async || pending::<StatusCode>().await);
    let hang_body = warp::path!("hang-body")
        .map(|| warp::reply::stream(stream::pending::<Result<Vec<u8>, Infallible>>()));
    page.or(slow)
        .or(letters)
        .or(upload)
        .or(websocket)
        .or(events)
        .or(hold)
        .or(hang_body)
        .recover(turned_away)
        .map(move |reply| name_yourself(info, reply))
}

fn name_yourself(info: Info, reply: impl Reply) -> Response {
    let mut response = reply.into_response();
    for (name, value) in info.headers() {
        if let Ok(value) = HeaderValue::try_from(value) {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn turned_away(rejection: Rejection) -> Result<StatusCode, Infallible> {
    let other_method = rejection.find::<warp::reject::MethodNotAllowed>().is_some();
    Ok(match rejection.is_not_found() {
        true => StatusCode::NOT_FOUND,
        false if other_method => StatusCode::METHOD_NOT_ALLOWED,
        false => StatusCode::BAD_REQUEST,
    })
}

fn letters(letters: Letters) -> Response {
    match letters.pieces() {
        Some(pieces) => warp::reply::stream(pieces).into_response(),
        None => warp::reply::with_status(Letters::WRONG, StatusCode::BAD_REQUEST).into_response(),
    }
}

async fn upload(body: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Response {
    let mut upload = Upload::default();
    let mut body = std::pin::pin!(body);
    while let Some(bytes) = body.next().await {
        match bytes {
            Ok(mut bytes) => {
                while bytes.has_remaining() {
                    let piece = bytes.chunk();
                    upload.update(piece);
                    let len = piece.len();
                    bytes.advance(len);
                }
            }
            Err(error) => {
                let text = upload.broken(&error);
                return warp::reply::with_status(text, StatusCode::BAD_REQUEST).into_response();
            }
        }
    }
    upload.measured().into_response()
}

async fn echo(mut socket: ws::GracefulSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        // Pings and closes are answered for us.
        if message.is_text() && socket.send(message).await.is_err() {
            return;
        }
    }
}
