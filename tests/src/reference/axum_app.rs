//! The HTTP surface of the reference servers, for everything that serves an [`axum::Router`].

use std::{convert::Infallible, future::pending, net::SocketAddr, sync::Arc};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{
        ConnectInfo, Query, State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{
        IntoResponse, Response,
        sse::{self, Sse},
    },
    routing::{any, get, post},
};
use futures_util::{Stream, StreamExt, stream};
use handover::{Connection, Graceful};
use tokio::time::timeout;

use super::surface::{
    CLOSE_REASON, CLOSED_WITHIN, Event, Info, Letters, Pace, Slow, Upload, close_code, peer,
};

/// The routes of the reference servers. Every answer, also an error, carries `x-pid` and
/// `x-generation`.
///
/// `/ws` and `/sse` end when the [`Graceful`] in the request's extensions drains, which is there
/// under Handover's own servers and under its layer.
pub fn router(info: Info) -> Router {
    Router::new()
        .route("/", get(async move || info.page()))
        .route("/peer", get(who))
        .route("/slow", get(slow))
        .route("/stream", get(letters))
        .route("/upload", post(upload))
        .route("/ws", any(websocket))
        .route("/sse", get(events))
        .route("/hold", get(async || pending::<StatusCode>().await))
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

async fn who(
    client: Option<Extension<ConnectInfo<SocketAddr>>>,
    connection: Option<Extension<Arc<Connection>>>,
) -> String {
    let client = client.map(|Extension(ConnectInfo(client))| client);
    peer(client, connection.as_ref().map(|connection| &***connection))
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

// Without the layer there is nobody to tell of a drain.
fn token(graceful: Option<Extension<Graceful>>) -> Graceful {
    graceful.map_or_else(Graceful::new, |Extension(graceful)| graceful)
}

async fn events(
    State(info): State<Info>,
    graceful: Option<Extension<Graceful>>,
    Query(pace): Query<Pace>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let feed = Event::feed(&pace, last, info.pid, token(graceful));
    Sse::new(feed.map(|event| {
        Ok(match event {
            Event::Tick { id, pid } => sse::Event::default()
                .id(id.to_string())
                .data(pid.to_string()),
            Event::Draining { retry } => sse::Event::default().retry(retry).comment(Event::COMMENT),
        })
    }))
}

async fn websocket(graceful: Option<Extension<Graceful>>, upgrade: WebSocketUpgrade) -> Response {
    let graceful = token(graceful);
    upgrade.on_upgrade(move |socket| echo(socket, graceful))
}

async fn echo(mut socket: WebSocket, graceful: Graceful) {
    loop {
        tokio::select! {
            () = graceful.draining() => return close(socket, &graceful).await,
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    if socket.send(Message::Text(text)).await.is_err() {
                        return;
                    }
                }
                // Pings and closes are answered for us.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

async fn close(mut socket: WebSocket, graceful: &Graceful) {
    let frame = CloseFrame {
        code: close_code(graceful),
        reason: CLOSE_REASON.into(),
    };
    if socket.send(Message::Close(Some(frame))).await.is_err() {
        return;
    }
    // What the peer had sent before it saw the close is read, or the close would become a reset.
    let _ = timeout(CLOSED_WITHIN, async {
        while let Some(Ok(_)) = socket.recv().await {}
    })
    .await;
}
