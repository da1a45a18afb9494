//! `/ws`: sends each text message back, and says goodbye when the server drains.

use std::time::Duration;

use axum::{
    Extension,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    response::Response,
};
use handover::Graceful;
use tokio::time::timeout;

/// How long a peer may take to answer a close.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
/// "Going away": the service ends.
const GOING_AWAY: u16 = 1001;
/// "Service restart": a client that reconnects finds the successor.
const SERVICE_RESTART: u16 = 1012;

pub(crate) async fn upgrade(
    graceful: Option<Extension<Graceful>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    // Without the layer there is nobody to tell of a drain.
    let graceful = graceful.map_or_else(Graceful::new, |Extension(graceful)| graceful);
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
    let upgraded = graceful.reason().is_some_and(|reason| reason.is_upgrade());
    let code = if upgraded {
        SERVICE_RESTART
    } else {
        GOING_AWAY
    };
    let frame = CloseFrame {
        code,
        reason: "the server drains".into(),
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
