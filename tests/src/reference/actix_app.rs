//! The HTTP surface of the reference servers, as an application of actix-web.

use std::{convert::Infallible, future::pending};

use actix_web::{
    App, Error, HttpRequest, HttpResponse, Responder, Route,
    body::MessageBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    guard,
    http::header::{HeaderName, HeaderValue},
    middleware::Next,
    middleware::from_fn,
    rt,
    web::{self, Bytes, Data, Query},
};
use actix_ws::{AggregatedMessage, CloseCode, CloseReason, Session};
use futures_util::{StreamExt, stream};
use handover_actix_web::Draining;
use tokio::time::timeout;

use super::surface::{
    CLOSE_REASON, CLOSED_WITHIN, Event, Info, Letters, Pace, Slow, Upload, close_code,
};

/// The routes of the reference servers. Every answer, also an error, carries `x-pid` and
/// `x-generation`.
///
/// `/ws` and `/sse` end when the server drains, if it is one of Handover's.
pub fn app(
    info: Info,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + 'static>,
        Error = Error,
        InitError = (),
    >,
> {
    App::new()
        .app_data(Data::new(info))
        .route("/", get_or_head().to(page))
        .route("/slow", get_or_head().to(slow))
        .route("/stream", get_or_head().to(letters))
        .service(web::resource("/upload").route(web::post().to(upload)))
        .route("/ws", web::get().to(websocket))
        .route("/sse", web::get().to(events))
        .route(
            "/hold",
            web::get().to(async || pending::<HttpResponse>().await),
        )
        .route("/hang-body", web::get().to(hang_body))
        .wrap(from_fn(name_yourself))
}

/// As axum and warp have it: a HEAD is a GET without its body.
fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

async fn name_yourself(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let info = request.app_data::<Data<Info>>().map(|info| *info.get_ref());
    let mut response = next.call(request).await?;
    for (name, value) in info.iter().flat_map(|info| info.headers()) {
        if let Ok(value) = HeaderValue::try_from(value) {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

async fn page(info: Data<Info>) -> String {
    info.page()
}

async fn slow(info: Data<Info>, slow: Query<Slow>) -> String {
    slow.into_inner().wait().await;
    info.page()
}

async fn letters(letters: Query<Letters>) -> HttpResponse {
    match letters.into_inner().pieces() {
        Some(pieces) => HttpResponse::Ok().streaming(pieces),
        None => HttpResponse::BadRequest().body(Letters::WRONG),
    }
}

async fn upload(mut body: web::Payload) -> HttpResponse {
    let mut upload = Upload::default();
    while let Some(bytes) = body.next().await {
        match bytes {
            Ok(bytes) => upload.update(&bytes),
            Err(error) => return HttpResponse::BadRequest().body(upload.broken(&error)),
        }
    }
    HttpResponse::Ok().body(upload.measured())
}

async fn hang_body() -> HttpResponse {
    HttpResponse::Ok().streaming(stream::pending::<Result<Bytes, Infallible>>())
}

async fn events(
    request: HttpRequest,
    info: Data<Info>,
    pace: Query<Pace>,
    draining: Draining,
) -> impl Responder {
    let last = request.headers().get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok());
    let feed = Event::feed(&pace, last, info.pid, draining.graceful().clone());
    let lines = feed.map(|event| {
        let lines = match event {
            Event::Tick { id, pid } => format!("id: {id}\ndata: {pid}\n\n"),
            Event::Draining { retry } => {
                format!("retry: {}\n: {}\n\n", retry.as_millis(), Event::COMMENT)
            }
        };
        Ok::<_, Infallible>(Bytes::from(lines))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .streaming(lines)
}

async fn websocket(
    request: HttpRequest,
    body: web::Payload,
    draining: Draining,
) -> Result<HttpResponse, Error> {
    let (response, session, messages) = actix_ws::handle(&request, body)?;
    let messages = messages.aggregate_continuations();
    rt::spawn(echo(session, messages, draining));
    Ok(response)
}

async fn echo(
    mut session: Session,
    mut messages: actix_ws::AggregatedMessageStream,
    draining: Draining,
) {
    loop {
        let sent = tokio::select! {
            () = draining.begun() => break,
            message = messages.recv() => match message {
                Some(Ok(AggregatedMessage::Text(text))) => session.text(text).await,
                Some(Ok(AggregatedMessage::Ping(bytes))) => session.pong(&bytes).await,
                Some(Ok(AggregatedMessage::Close(reason))) => {
                    let _ = session.close(reason).await;
                    return;
                }
                Some(Ok(_)) => Ok(()),
                Some(Err(_)) | None => return,
            },
        };
        if sent.is_err() {
            return;
        }
    }
    let reason = CloseReason {
        code: CloseCode::from(close_code(draining.graceful())),
        description: Some(CLOSE_REASON.to_owned()),
    };
    if session.close(Some(reason)).await.is_err() {
        return;
    }
    // Up to the peer's own close.
    let _ = timeout(CLOSED_WITHIN, async {
        while let Some(Ok(message)) = messages.recv().await {
            if matches!(message, AggregatedMessage::Close(_)) {
                break;
            }
        }
    })
    .await;
}
