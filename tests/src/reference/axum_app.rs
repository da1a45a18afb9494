//! The HTTP surface of the reference servers, for everything that serves an [`axum::Router`].

use std::{convert::Infallible, future::pending, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::{events, websocket};
use crate::load::{Fnv1a, stream_byte, stream_len};

/// Bytes of one piece of `/stream`, and the time between two.
const STREAM_CHUNK: u64 = 1024;
const STREAM_EVERY: Duration = Duration::from_millis(50);
/// Nobody waits for longer than this.
const LONGEST: Duration = Duration::from_secs(3600);

/// Who answers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Info {
    /// The process.
    pub pid: u32,
    /// Its generation.
    pub generation: u64,
}

impl Info {
    /// This process, as generation `generation`.
    #[must_use]
    pub fn new(generation: u64) -> Self {
        Self {
            pid: std::process::id(),
            generation,
        }
    }
}

/// The routes of the reference servers. Every answer, also an error, carries `x-pid` and
/// `x-generation`.
///
/// `/ws` and `/sse` end when the [`Graceful`](handover::Graceful) in the request's extensions
/// drains, which is there under Handover's own servers and under its layer.
pub fn router(info: Info) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/slow", get(slow))
        .route("/stream", get(stream_letters))
        .route("/upload", post(upload))
        .route("/ws", any(websocket::upgrade))
        .route("/sse", get(events::events))
        .route("/hold", get(hold))
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
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static("x-pid"),
        HeaderValue::from(info.pid),
    );
    headers.insert(
        HeaderName::from_static("x-generation"),
        HeaderValue::from(info.generation),
    );
    response
}

async fn page(State(info): State<Info>) -> String {
    format!("pid={}\nok\n", info.pid)
}

#[derive(Deserialize)]
struct SlowQuery {
    #[serde(default)]
    ms: u64,
}

async fn slow(state: State<Info>, Query(query): Query<SlowQuery>) -> String {
    sleep(Duration::from_millis(query.ms).min(LONGEST)).await;
    page(state).await
}

#[derive(Deserialize)]
struct StreamQuery {
    #[serde(default)]
    secs: f64,
}

async fn stream_letters(Query(query): Query<StreamQuery>) -> Response {
    let Ok(duration) = Duration::try_from_secs_f64(query.secs) else {
        return (
            StatusCode::BAD_REQUEST,
            "secs must be a number of seconds\n",
        )
            .into_response();
    };
    let len = stream_len(duration.min(LONGEST));
    let start = Instant::now();
    let pieces = stream::iter((0..len).step_by(STREAM_CHUNK as usize).zip(1_u32..)).then(
        move |(at, nth)| async move {
            // By the clock, not by the pause: a late piece does not delay those after it.
            sleep_until(start + STREAM_EVERY * nth).await;
            Ok::<_, Infallible>(Bytes::from_iter((at..at + STREAM_CHUNK).map(stream_byte)))
        },
    );
    Body::from_stream(pieces).into_response()
}

async fn upload(body: Body) -> Response {
    let (mut len, mut hash) = (0_u64, Fnv1a::default());
    let mut body = body.into_data_stream();
    while let Some(bytes) = body.next().await {
        match bytes {
            Ok(bytes) => {
                len += bytes.len() as u64;
                hash.update(&bytes);
            }
            Err(error) => {
                let text = format!("the body ended after {len} bytes: {error}\n");
                return (StatusCode::BAD_REQUEST, text).into_response();
            }
        }
    }
    format!("len={len} fnv1a={:016x}\n", hash.finish()).into_response()
}

async fn hold() -> StatusCode {
    pending().await
}

async fn hang_body() -> Body {
    Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())
}
