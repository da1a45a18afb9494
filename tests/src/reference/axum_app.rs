//! The HTTP surface of the reference servers, for everything that serves an [`axum::Router`].

use std::{convert::Infallible, future::pending};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{
        Query, State,
        ws::{Message, WebSocketUpgrade},
    },
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::{any, get, post},
};
use futures_util::{StreamExt, stream};
use handover_axum::{Draining, sse, ws};

use super::surface::{Info, Letters, Pace, Slow, Upload, ticks};

/// The routes of the reference servers. Every answer, also an error, carries `x-pid` and
/// `x-generation`.
///
/// `/ws` and `/sse` end when the server drains, if it is one of Handover's or has its layer.
pub fn router(info: Info) -> Router {
    Router::new()
        .route("/", get(async move || info.page()))
        .route("/slow", get(slow))
        .route("/stream", get(letters))
        .route("/upload", post(upload))
        .route("/ws", any(websocket))
        .route("/sse", get(events))
        .route("/hold", any(async || pending::<StatusCode>().await))
        .route("/hang-body", get(hang_body))
        .with_state(info)
        .layer(from_fn_with_state(info, name_yourself))
}

async fn name_yourself(
    State(info): State<Info>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in info.headers() {
        if let Ok(value) = HeaderValue::try_from(value) {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn slow(State(info): State<Info>, Query(slow): Query<Slow>) -> String {
    slow.wait().await;
    info.page()
}

async fn letters(Query(letters): Query<Letters>) -> Response {
    match letters.pieces() {
        Some(pieces) => Body::from_stream(pieces).into_response(),
        None => (StatusCode::BAD_REQUEST, Letters::WRONG).into_response(),
    }
}

async fn upload(body: Body) -> Response {
    let mut upload = Upload::default();
    let mut body = body.into_data_stream();
    while let Some(bytes) = body.next().await {
        match bytes {
            Ok(bytes) => upload.update(&bytes),
            Err(error) => {
                return (StatusCode::BAD_REQUEST, upload.broken(&error)).into_response();
            }
        }
    }
    upload.measured().into_response()
}

async fn hang_body() -> Body {
    Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())
}

async fn events(
    State(info): State<Info>,
    Query(pace): Query<Pace>,
    headers: HeaderMap,
    draining: Draining,
) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let padding = pace.padding();
    let events = ticks(&pace, last).map(move |id| {
        let event = match padding.as_str() {
            "" => Event::default(),
            padding => Event::default().comment(padding),
        };
        let event = event.id(id.to_string());
        Ok::<_, Infallible>(event.data(info.pid.to_string()))
    });
    sse::graceful(Sse::new(events), &draining)
}

async fn websocket(upgrade: WebSocketUpgrade, draining: Draining) -> Response {
    upgrade.on_upgrade(async move |socket| {
        let mut socket = ws::graceful(socket, &draining);
        while let Some(Ok(message)) = socket.recv().await {
            // Pings and closes are answered for us.
            if let Message::Text(_) = message
                && socket.send(message).await.is_err()
            {
                return;
            }
        }
    })
}
