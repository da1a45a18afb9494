//! What the gRPC reference servers answer: `proto/echo.proto`, health and reflection.

use std::{pin::Pin, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue},
    middleware::map_response,
    response::Response as HttpResponse,
};
use futures_util::{Stream, StreamExt, stream};
use handover_tonic::{EndOnDrain, graceful};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tonic::{Request, Response, Status, Streaming, service::Routes};

use self::pb::{
    ChatMessage, Tick, TicksRequest, UnaryReply, UnaryRequest,
    echo_server::{self, EchoServer},
};
use super::Info;

/// The messages, the server and the client of `handover.reference.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::exhaustive_structs,
    clippy::allow_attributes
)]
pub mod pb {
    tonic::include_proto!("handover.reference.v1");
}

const FILES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/echo.fds"));

/// The services of the gRPC reference servers. Every answer carries `x-pid`, also an error.
///
/// Streams end when the token in their call's extensions drains, between two messages.
///
/// # Panics
///
/// If the description of the services, which is part of this program, cannot be read.
pub fn routes(info: Info) -> Routes {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILES)
        .build_v1()
        .expect("what the build script wrote");
    let router = Routes::new(EchoServer::new(Echo { info }))
        .add_service(handover_tonic::health())
        .add_service(reflection)
        .into_axum_router();
    let name_yourself = move |mut response: HttpResponse| async move {
        let name = HeaderName::from_static("x-pid");
        response
            .headers_mut()
            .insert(name, HeaderValue::from(info.pid));
        response
    };
    Routes::from(router.layer(map_response(name_yourself))).prepare()
}

struct Echo {
    info: Info,
}

type Messages<T> = EndOnDrain<Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>>;

#[tonic::async_trait]
impl echo_server::Echo for Echo {
    async fn unary(&self, request: Request<UnaryRequest>) -> Result<Response<UnaryReply>, Status> {
        let UnaryRequest { message, delay_ms } = request.into_inner();
        if delay_ms > 0 {
            sleep(Duration::from_millis(delay_ms.into())).await;
        }
        let pid = self.info.pid;
        Ok(Response::new(UnaryReply { message, pid }))
    }

    type TicksStream = Messages<Tick>;

    async fn ticks(
        &self,
        request: Request<TicksRequest>,
    ) -> Result<Response<Self::TicksStream>, Status> {
        let graceful = graceful(&request);
        let TicksRequest { count, interval_ms } = request.into_inner();
        let mut every = interval(Duration::from_millis(interval_ms.max(1).into()));
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let pid = self.info.pid;
        let ticks = stream::unfold((0, every), move |(index, mut every)| async move {
            if count > 0 && index >= count {
                return None;
            }
            every.tick().await;
            let next = index.wrapping_add(1);
            Some((Ok(Tick { index, pid }), (next, every)))
        });
        Ok(Response::new(EndOnDrain::new(ticks.boxed(), &graceful)))
    }

    type ChatStream = Messages<ChatMessage>;

    async fn chat(
        &self,
        request: Request<Streaming<ChatMessage>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        let graceful = graceful(&request);
        let pid = self.info.pid;
        let answers = request.into_inner().map(move |message| {
            let ChatMessage { message, .. } = message?;
            Ok(ChatMessage { message, pid })
        });
        Ok(Response::new(EndOnDrain::new(answers.boxed(), &graceful)))
    }
}
